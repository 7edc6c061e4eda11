#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of work.py with makers that take no time."""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

import work

# Makers: each is given a log and a text, and may use neither.


def make(target, log, text):
  """Adds its name to the log, then writes the text to the target."""
  with open(log, "a") as stream:
    stream.write(target.name + "\n")
  target.write_text(text)


def make_slowly(target, log, text):
  time.sleep(0.5)
  make(target, log, text)


def make_by_a_scratch_directory(target, log, text):
  del log, text
  assert not list(target.parent.iterdir()), "not empty"
  scratch = target.with_suffix(".work")
  scratch.mkdir()
  time.sleep(0.5)
  (scratch / "made").write_text(target.name)
  (scratch / "made").rename(target)


def make_directory(target, log, text):
  del log
  target.mkdir()
  for name in text.split():
    (target / name).write_text("")


def fail(target, log, text):
  del log
  target.write_text("half")
  sys.exit(text)


def make_nothing(target, log, text):
  del target, log, text


def make_half_and_wait(target, log, text):
  del text
  target.write_text("half")
  log.write_text(str(os.getpid()))
  time.sleep(60)


class WorkTest(unittest.TestCase):

  def setUp(self):
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self.out = pathlib.Path(directory.name) / "out"
    self.log = pathlib.Path(directory.name) / "log"
    self.addCleanup(signal.signal, signal.SIGTERM, signal.SIG_DFL)

  def task(self, name, maker=make, needs=(), text="made", **options):
    return work.Task(name, list(needs), maker, (self.log, text), **options)

  def run_tasks(self, *tasks, keys=None, jobs=2):
    """Returns what the run printed on stdout."""
    keys = keys or {}
    all_keys = {task.name: keys.get(task.name, "key") for task in tasks}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      with contextlib.redirect_stderr(io.StringIO()) as self.errors:
        work.run("things", self.out, list(tasks), all_keys, jobs)
    return printed.getvalue()

  def made(self):
    """Names in the order in which they were made."""
    return self.log.read_text().split() if self.log.exists() else []

  def left_over(self):
    return list((self.out / ".made").glob("new-*"))

  def test_makes_once(self):
    self.run_tasks(self.task("a"), self.task("b"))
    self.assertEqual((self.out / "a").read_text(), "made")
    self.assertIn("all 2 are there", self.run_tasks(self.task("a"), self.task("b")))
    self.assertEqual(sorted(self.made()), ["a", "b"])
    self.assertEqual(self.left_over(), [])

  def test_makes_again_what_has_another_key_or_is_gone(self):
    tasks = self.task("a", text="new"), self.task("b"), self.task("c")
    self.run_tasks(self.task("a"), *tasks[1:], jobs=1)
    (self.out / "b").unlink()
    self.run_tasks(*tasks, keys={"a": "another"}, jobs=1)
    self.assertEqual(self.made(), ["a", "b", "c", "a", "b"])
    self.assertEqual((self.out / "a").read_text(), "new")

  def test_makes_what_is_needed_first(self):
    self.run_tasks(
        self.task("a", needs=["b"]), self.task("b", needs=["c"]), self.task("c")
    )
    self.assertEqual(self.made(), ["c", "b", "a"])

  def test_makers_at_the_same_time_do_not_meet(self):
    """Names beside the target that drop its suffix are the same for both."""
    names = ["x.tflite", "x.litertlm"]
    self.run_tasks(
        *(self.task(name, make_by_a_scratch_directory) for name in names)
    )
    for name in names:
      self.assertEqual((self.out / name).read_text(), name)
    self.assertEqual(self.left_over(), [])

  def test_a_directory_replaces_the_one_before(self):
    self.run_tasks(self.task("d", make_directory, text="old"))
    self.run_tasks(
        self.task("d", make_directory, text="new"), keys={"d": "another"}
    )
    self.assertEqual([p.name for p in (self.out / "d").iterdir()], ["new"])

  def test_spreads_the_files_of_a_directory(self):
    task = self.task("s", make_directory, text="p q", spread_to="folder")
    self.run_tasks(task)
    self.assertTrue((self.out / "folder" / "p").exists())
    self.assertIn("all 1 are there", self.run_tasks(task))
    (self.out / "folder" / "q").unlink()
    self.run_tasks(task)
    self.assertTrue((self.out / "folder" / "q").exists())

  def test_a_failure_leaves_what_was_there(self):
    self.run_tasks(self.task("a", text="old"))
    with self.assertRaises(SystemExit) as failed:
      self.run_tasks(
          self.task("a", fail, text="no luck"), keys={"a": "another"}
      )
    self.assertIn("making a failed (exit code 1)", str(failed.exception))
    self.assertIn("no luck", self.errors.getvalue())
    self.assertEqual((self.out / "a").read_text(), "old")
    self.assertEqual(self.left_over(), [])

  def test_a_maker_that_makes_nothing_failed(self):
    with self.assertRaises(SystemExit):
      self.run_tasks(self.task("a", make_nothing))

  def start(self, maker):
    """A run in another process that makes `slow`."""
    program = textwrap.dedent(f"""
        import pathlib, sys
        sys.path.insert(0, {str(pathlib.Path(work.__file__).parent)!r})
        import work, work_test
        log = pathlib.Path({str(self.log)!r})
        task = work.Task("slow", [], work_test.{maker.__name__}, (log, "made"))
        work.run("things", pathlib.Path({str(self.out)!r}), [task],
                 {{"slow": "key"}}, 1)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL
    )
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    return process

  def start_in_another_process(self):
    """A run that makes `slow`, which writes half of it and waits."""
    process = self.start(make_half_and_wait)
    deadline = time.monotonic() + 30
    while not (self.log.exists() and self.log.read_text()):
      self.assertLess(time.monotonic(), deadline, "it does not start")
      time.sleep(0.02)
    return process, int(self.log.read_text())

  def test_an_ended_run_ends_its_makers(self):
    process, maker = self.start_in_another_process()
    process.terminate()
    self.assertEqual(process.wait(30), 143)
    with self.assertRaises(ProcessLookupError):
      os.kill(maker, 0)
    self.assertEqual(self.left_over(), [])
    self.assertFalse((self.out / "slow").exists())

  def test_a_killed_run_is_cleared_away(self):
    process, maker = self.start_in_another_process()
    process.kill()
    process.wait()
    self.assertEqual(len(self.left_over()), 1)
    os.kill(maker, signal.SIGKILL)
    self.run_tasks(self.task("slow"))
    self.assertEqual((self.out / "slow").read_text(), "made")
    self.assertEqual(self.left_over(), [])

  def test_two_runs_make_a_thing_once(self):
    """The second waits for the first and finds it made."""
    self.out.mkdir()
    runs = [self.start(make_slowly) for _ in range(2)]
    self.assertEqual([run.wait(60) for run in runs], [0, 0])
    self.assertEqual(self.made(), ["slow"])


class SourceTest(unittest.TestCase):

  def test_holds_what_a_function_uses_of_its_module(self):
    source = work.source_of(work.digest)
    self.assertIn("def digest", source)
    self.assertNotIn("def versions", source)
    self.assertIn("class _Workshop", work.source_of(work.run))


if __name__ == "__main__":
  unittest.main()
