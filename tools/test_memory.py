#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a test, unless it passed before and nothing that it reads has changed.

    test_memory.py --memory DIR --build DIR --cache DIR NAME COMMAND…

NAME is remembered in --memory once COMMAND has ended with 0. What it reads are
its own program and the others of --build, testdata/ and docs/ (by their bytes),
the libraries that it is linked with and all of --cache (by size and time of
change, as there are gigabytes). A failure is never remembered.
"""

import argparse
from collections.abc import Iterable
import os
import pathlib
import re
import subprocess
import sys

import mutation_run
import work

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# Settings that choose which cases run, or how.
_SETTINGS = re.compile(r"GTEST_|OMP_|ASAN_|UBSAN_|VERIFY_TFLITE_")


def _stat(path: pathlib.Path) -> tuple[str, int, int]:
  found = path.stat()
  return str(path), found.st_size, found.st_mtime_ns


def _is_read(path: pathlib.Path) -> bool:
  # Makers' logs and locks are touched by every run.
  return path.is_file() and path.suffix != ".log" and path.name != "lock"


def _files(folders: Iterable[pathlib.Path]) -> list[tuple[str, int, int]]:
  return sorted(
      _stat(path)
      for folder in folders
      for path in folder.rglob("*")
      if _is_read(path)
  )


def fingerprint(
    build: pathlib.Path, cache: pathlib.Path, command: list[str]
) -> str:
  """Returns a hash of all that the outcome of the command depends on."""
  program = pathlib.Path(command[0])
  programs = [
      program,
      build / "verify_tflite",
      *sorted((build / "src" / "text").glob("*.so")),
      _ROOT / "testdata",
      _ROOT / "docs",
  ]
  return work.digest(
      command,
      sorted(item for item in os.environ.items() if _SETTINGS.match(item[0])),
      [mutation_run.content(path) for path in programs if path.exists()],
      [_stat(path) for path in mutation_run.libraries(program)],
      # What setup.sh made has stamps; models and recordings are what they are.
      _files([cache / "models", cache / "expected"]),
      [_stat(path) for path in sorted(cache.glob("*/.stamp"))],
      mutation_run.machine(),
  )


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--memory", type=pathlib.Path, required=True)
  parser.add_argument("--build", type=pathlib.Path, required=True)
  parser.add_argument("--cache", type=pathlib.Path, required=True)
  parser.add_argument("name")
  parser.add_argument("command", nargs=argparse.REMAINDER)
  args = parser.parse_args()
  key = fingerprint(args.build, args.cache, args.command)
  remembered = args.memory / args.name
  if remembered.exists() and remembered.read_text() == key:
    print(f"{args.name}: passed before; nothing that it reads has changed")
    return 0
  remembered.unlink(missing_ok=True)
  code = subprocess.run(args.command, check=False).returncode
  if code == 0:
    args.memory.mkdir(parents=True, exist_ok=True)
    remembered.write_text(key)
  return code if code >= 0 else 128 - code


if __name__ == "__main__":
  sys.exit(main())
