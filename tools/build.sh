#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the program; arguments: cmake options, then `--` and ninja targets.
#   BUILD_DIR  where to build (default: build)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/common.sh

options=()
while (($# > 0)) && [[ $1 != -- ]]; do
  options+=("$1")
  shift
done
(($# == 0)) || shift
build_dir="${BUILD_DIR:-build}"

say "building in $build_dir"
# Sources of a room are compiled six at a time: headers are parsed a sixth as
# often. Who changes one source often turns it off: -DCMAKE_UNITY_BUILD=OFF
cmake -S . -B "$build_dir" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=6 \
  -DVERIFY_TFLITE_CACHE="$cache" \
  ${options[@]+"${options[@]}"} >/dev/null
ninja -C "$build_dir" "$@"
