#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of test_memory.py with a test that counts how often it runs."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(__file__).with_name("test_memory.py")


class TestMemory(unittest.TestCase):
  def setUp(self) -> None:
    self._folder = tempfile.TemporaryDirectory()
    self.addCleanup(self._folder.cleanup)
    self.root = pathlib.Path(self._folder.name)
    (self.root / "cache" / "models").mkdir(parents=True)
    self.model = self.root / "cache" / "models" / "a.tflite"
    self.model.write_text("model")
    self.test = self.root / "a_test"
    self.write_test(0)

  def write_test(self, code: int) -> None:
    self.test.write_text(f"#!/bin/sh\necho run >>{self.root}/runs\nexit {code}\n")
    self.test.chmod(0o755)

  def run_it(self, **environment: str) -> int:
    return subprocess.run(
        [
            sys.executable,
            "-B",
            PROGRAM,
            f"--memory={self.root}/memory",
            f"--build={self.root}/build",
            f"--cache={self.root}/cache",
            "a_test",
            self.test,
        ],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        check=False,
    ).returncode

  def runs(self) -> int:
    return len((self.root / "runs").read_text().splitlines())

  def test_runs_once_what_passed(self) -> None:
    self.assertEqual(self.run_it(), 0)
    self.assertEqual(self.run_it(), 0)
    self.assertEqual(self.runs(), 1)

  def test_a_makers_lock_is_not_read(self) -> None:
    private = self.model.parent / ".made"
    private.mkdir()
    (private / "lock").write_text("")
    self.run_it()
    (private / "lock").write_text("another run")
    self.run_it()
    self.assertEqual(self.runs(), 1)

  def test_runs_again_what_failed(self) -> None:
    self.write_test(3)
    self.assertEqual(self.run_it(), 3)
    self.assertEqual(self.run_it(), 3)
    self.assertEqual(self.runs(), 2)

  def test_a_failure_forgets_what_passed(self) -> None:
    self.run_it()
    self.write_test(1)
    self.assertEqual(self.run_it(), 1)
    self.write_test(0)
    self.assertEqual(self.run_it(), 0)
    self.assertEqual(self.runs(), 3)

  def test_runs_again_for_another_program(self) -> None:
    self.run_it()
    self.write_test(0)
    self.test.write_text(self.test.read_text() + "# other\n")
    self.run_it()
    self.assertEqual(self.runs(), 2)

  def test_runs_again_for_another_model(self) -> None:
    self.run_it()
    self.model.write_text("other model")
    self.run_it()
    self.assertEqual(self.runs(), 2)

  def test_runs_again_for_a_program_that_it_runs(self) -> None:
    self.run_it()
    (self.root / "build").mkdir()
    (self.root / "build" / "verify_tflite").write_text("program")
    self.run_it()
    self.assertEqual(self.runs(), 2)

  def test_runs_again_with_other_settings(self) -> None:
    self.run_it(GTEST_SHARD_INDEX="0")
    self.run_it(GTEST_SHARD_INDEX="1")
    self.assertEqual(self.runs(), 2)


if __name__ == "__main__":
  unittest.main()
