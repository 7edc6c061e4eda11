#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of what the mutation suite remembers, with files that are no models."""

import dataclasses
import pathlib
import tempfile
import unittest

import mutation_run

RUN = mutation_run.Run("pass", [], 1e-11, 60, 60, proven=True)


class MemoryTest(unittest.TestCase):
  def setUp(self) -> None:
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self.root = pathlib.Path(directory.name)
    self.program = self.write("build/verify_tflite", "program")
    self.file = self.write("models/a.tflite", "weights")
    self.write("models/tiny/config.json", "{}")
    self.key = (self.file, self.root / "models/tiny", ("--flag",))
    self.memory().keep(RUN, *self.key)

  def write(self, name: str, text: str) -> pathlib.Path:
    path = self.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path

  def memory(self) -> mutation_run.Memory:
    """As another process has it, which has read no file yet."""
    mutation_run.content.cache_clear()
    return mutation_run.Memory(self.root / "runs", self.root / "build")

  def test_finds_what_was_kept(self) -> None:
    found = self.memory().find(*self.key)
    assert found is not None
    self.assertEqual(dataclasses.asdict(found), dataclasses.asdict(RUN))

  def test_whatever_differs_is_another_run(self) -> None:
    for name in (
        "build/verify_tflite",
        "models/a.tflite",
        "models/tiny/config.json",
    ):
      path = self.root / name
      old = path.read_text()
      path.write_text(old + " ")
      self.assertIsNone(self.memory().find(*self.key), name)
      path.write_text(old)
    self.write("models/tiny/tokenizer.json", "{}")
    self.assertIsNone(self.memory().find(*self.key))
    (self.root / "models/tiny/tokenizer.json").unlink()
    self.assertIsNone(self.memory().find(*self.key[:2], ("--flag", "--other")))
    self.assertIsNotNone(self.memory().find(*self.key))

  def test_an_embedder_beside_the_model_counts(self) -> None:
    file = self.write("models/split/model.tflite", "weights")
    embedder = self.write("models/split/embedder.tflite", "rows")
    key = (file, *self.key[1:])
    self.memory().keep(RUN, *key)
    self.assertIsNotNone(self.memory().find(*key))
    embedder.write_text("other rows")
    self.assertIsNone(self.memory().find(*key))

class VerifyTest(unittest.TestCase):
  def test_an_error_names_the_file_without_its_folder(self) -> None:
    with tempfile.TemporaryDirectory() as directory:
      root = pathlib.Path(directory)
      program = root / "program"
      program.write_text(
          '#!/bin/sh\necho "verify_tflite: error: ${1#--tflite_path=}: bad"\n'
          "exit 2\n"
      )
      program.chmod(0o755)
      run = mutation_run.verify(program, root / "a.tflite", root / "tiny")
    self.assertEqual(run.outcome, "error")
    self.assertEqual(run.detail, "exit code 2: a.tflite: bad")


if __name__ == "__main__":
  unittest.main()
