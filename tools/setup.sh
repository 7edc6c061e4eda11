#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up what building, tests and demo need: Debian packages, a Python virtual
# environment and the chat template sources of llama.cpp. Done once; a later run
# only looks whether all is there.
#   --browser  Chromium, too (350 MB), for the test that looks at the HTML report;
#              where it cannot be had, that test is skipped
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/common.sh

readonly debian_packages=(
  g++ cmake ninja-build nlohmann-json3-dev libcli11-dev libflatbuffers-dev libfmt-dev
  libgtest-dev libgmock-dev libsentencepiece-dev libssl-dev zlib1g-dev
)
readonly sdist_parts=(
  LICENSE
  common/jinja
  common/json.cpp common/json.h common/json-schema.h
  common/unicode.cpp common/unicode.h
  ggml/include
  licenses/LICENSE-jsonhpp
  models/ggml-vocab-llama-spm.gguf
  vendor/nlohmann
)

hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

missing_packages() {
  local package
  command -v dpkg-query >/dev/null || return 0
  # dpkg-query fails where one is unknown, and still lists the others.
  local installed
  installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' \
    "${debian_packages[@]}" python3-venv 2>/dev/null || true)
  for package in "${debian_packages[@]}"; do
    grep -qxF "$package installed" <<<"$installed" || echo "$package"
  done
  # A Python from elsewhere brings its own venv.
  "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

install_packages() {
  local missing=("$@")
  ((${#missing[@]} > 0)) || return 0
  local apt=(apt-get install -y --no-install-recommends "${missing[@]}")
  local as_root=()
  if ((EUID != 0)); then
    # Ask for no password where nobody can type one.
    if [[ -t 0 ]] && command -v sudo >/dev/null; then
      as_root=(sudo)
    elif sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    else
      stop "these packages are missing; install them and run again:" \
        "  sudo ${apt[*]}"
    fi
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  # Package lists may be old or, in containers, absent.
  "${as_root[@]}" apt-get update -q </dev/null ||
    say "apt-get update failed; trying with the lists at hand"
  "${as_root[@]}" "${apt[@]}" -q </dev/null ||
    stop "installing failed; try it yourself and run again:" \
      "  sudo ${apt[*]}"
}

install_browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    ! command -v "$name" >/dev/null || return 0
  done
  # Ubuntu has it as a snap only. Tried once.
  [[ ! -e $cache/.no_browser ]] || return 0
  (install_packages chromium) || {
    say "no Chromium: the test that looks at the HTML report will be skipped"
    touch "$cache/.no_browser"
  }
}

make_venv() {
  local key
  key=$(hash_of requirements.txt tools/requirements-no-deps.txt)
  is_stamped "$cache/venv" "$key" && return
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "Python 3.11 or newer is needed, this is $("$python" -V);" \
      "  name another one in the variable PYTHON"
  say "making the virtual environment in $cache/venv"
  # Half an environment is worth nothing: begin anew.
  rm -rf "$cache/venv"
  "$python" -m venv "$cache/venv" ||
    stop "python3 -m venv failed; on Debian: sudo apt-get install python3-venv"
  local pip=("$cache/venv/bin/python" -m pip --disable-pip-version-check)
  "${pip[@]}" install -r requirements.txt
  "${pip[@]}" install --no-deps -r tools/requirements-no-deps.txt
  stamp "$cache/venv" "$key"
}

# Packages that one kind of model is exported with, in place of the
# environment's.
get_lfm2_packages() {
  local key
  key=$(hash_of tools/requirements-lfm2.txt)
  is_stamped "$cache/lfm2_packages" "$key" && return
  say "getting the packages that LFM2 is exported with"
  rm -rf "$cache/lfm2_packages"
  "$cache/venv/bin/python" -m pip --disable-pip-version-check install \
    --no-deps --target "$cache/lfm2_packages" -r tools/requirements-lfm2.txt
  stamp "$cache/lfm2_packages" "$key"
}

get_llama_cpp() {
  local key
  key=$(hash_of tools/requirements-sdist.txt - <<<"${sdist_parts[*]}")
  is_stamped "$cache/llama.cpp" "$key" && return
  say "getting the template engine of llama.cpp"
  local work="$cache/sdist.new"
  rm -rf "$work" "$cache/llama.cpp"
  mkdir -p "$work/llama.cpp"
  "$cache/venv/bin/python" -m pip --disable-pip-version-check download \
    --no-deps --no-binary llama-cpp-python --require-hashes \
    --dest "$work" -r tools/requirements-sdist.txt
  local archive=("$work"/*.tar.gz)
  local top
  top=$(basename "${archive[0]}" .tar.gz)/vendor/llama.cpp
  tar -xzf "${archive[0]}" -C "$work/llama.cpp" --strip-components=3 \
    "${sdist_parts[@]/#/$top/}"
  stamp "$work/llama.cpp" "$key"
  mv "$work/llama.cpp" "$cache/llama.cpp"
  rm -rf "$work"
}

mkdir -p "$cache"
exec 9>"$cache/setup.lock"
flock -n 9 || {
  say "waiting for another set-up to end"
  flock 9
}
mapfile -t missing < <(missing_packages)
install_packages "${missing[@]}"
# Debian's and Python's downloads side by side.
[[ ${1:-} != --browser ]] || install_browser &
make_venv
get_lfm2_packages
get_llama_cpp
wait
say "all is set up in $cache"
