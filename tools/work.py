# SPDX-License-Identifier: Apache-2.0
"""Makes things once: stamps, temporary names, a lock, progress lines.

Each is made in a process of its own, forked from one that has loaded what most
of them need: loading it anew takes as long as making a small thing.
"""

from collections.abc import Callable
import dataclasses
import fcntl
import functools
import gc
import hashlib
import importlib.metadata
import inspect
import multiprocessing
import multiprocessing.process
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import types
from typing import Any


def cache_dir() -> pathlib.Path:
  """Where everything made is kept."""
  own = os.environ.get("VERIFY_TFLITE_CACHE")
  if own:
    return pathlib.Path(own)
  base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(base) / "verify_tflite"


def default_jobs() -> int:
  """Two at a time where cores and memory (4 GB each) allow."""
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
  for line in open("/proc/meminfo"):
    if line.startswith("MemAvailable"):
      memory = int(line.split()[1]) * 1024
  return 2 if (os.cpu_count() or 1) >= 2 and memory > 9e9 else 1


def digest(*parts: Any) -> str:
  return hashlib.sha256(repr(parts).encode()).hexdigest()


def versions(packages: tuple[str, ...]) -> list[str]:
  return [f"{name} {importlib.metadata.version(name)}" for name in packages]


@functools.cache
def _source(thing: Callable[..., Any]) -> str:
  return inspect.getsource(thing)


def source_of(function: Callable[..., Any]) -> str:
  """The source of a function and of all of its module that it uses."""
  module = sys.modules[function.__module__]
  seen: dict[str, str] = {}

  def visit(code: types.CodeType) -> None:
    for inner in code.co_consts:
      if isinstance(inner, types.CodeType):
        visit(inner)
    for name in code.co_names:
      value = vars(module).get(name)
      if name in seen or value is None:
        continue
      if getattr(value, "__module__", None) == module.__name__:
        seen[name] = _source(value)
        functions = vars(value).values() if inspect.isclass(value) else [value]
        for used in filter(inspect.isfunction, functions):
          visit(used.__code__)
      elif isinstance(value, (str, int, float, tuple, list, dict)):
        seen[name] = repr(value)

  visit(function.__code__)
  return _source(function) + "".join(
      seen[name] for name in sorted(seen)
  )


@dataclasses.dataclass
class Task:
  """One thing to make, by a function that writes it to a given path.

  The path lies in an empty directory of the task's own: a function may put
  whatever it likes beside what it makes, under any names. It is called in
  another process, as make(path, *args): all must be picklable.
  """

  name: str
  needs: list[str]
  make: Callable[..., None]
  args: tuple[Any, ...] = ()
  # The function makes a directory whose files go to this one.
  spread_to: str | None = None


@dataclasses.dataclass
class _Running:
  task: Task
  process: multiprocessing.process.BaseProcess
  start: float
  target: pathlib.Path
  log: pathlib.Path


def _make(log: pathlib.Path, task: Task, target: pathlib.Path) -> None:
  """What a process of its own does."""
  with open(log, "w") as stream:
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
  # Converters make millions of objects, and a collection would look at all that
  # was loaded before, too: a tenth of the time.
  gc.freeze()
  gc.set_threshold(100_000, 50, 100)
  # It is another one's who ends this process.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  task.make(target, *task.args)


class _Workshop:
  """The directory things are made in and its bookkeeping."""

  def __init__(
      self, out: pathlib.Path, keys: dict[str, str], preload: tuple[str, ...]
  ):
    self.out = out
    self.keys = keys
    self.context = multiprocessing.get_context("forkserver")
    self.context.set_forkserver_preload(["__main__", *preload])
    self.private = out / ".made"
    # A name of this run's own: an orphan of a killed run may still be writing.
    self.new = self.private / f"new-{os.getpid()}"

  def stamp(self, name: str) -> pathlib.Path:
    return self.private / f"{name}.stamp"

  def done(self, name: str) -> bool:
    """Was it made by today's recipe, and is all of it still there?"""
    stamp = self.stamp(name)
    if not stamp.exists():
      return False
    key, *made = stamp.read_text().splitlines()
    return key == self.keys[name] and all(
        (self.out / path).exists() for path in made
    )

  def start(self, task: Task) -> _Running:
    self.new.mkdir(exist_ok=True)
    target = pathlib.Path(tempfile.mkdtemp(dir=self.new)) / task.name
    log = self.private / f"{task.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    process = self.context.Process(target=_make, args=(log, task, target))
    process.start()
    return _Running(task, process, time.monotonic(), target, log)

  def keep(self, task: Task, target: pathlib.Path) -> None:
    """Puts the new thing in place; the stamp comes last."""
    stamp = self.stamp(task.name)
    stamp.unlink(missing_ok=True)
    moves = {target: pathlib.Path(task.name)}
    if task.spread_to is not None:
      folder = pathlib.Path(task.spread_to)
      moves = {path: folder / path.name for path in sorted(target.iterdir())}
    for source, relative in moves.items():
      final = self.out / relative
      final.parent.mkdir(parents=True, exist_ok=True)
      if final.is_dir():
        shutil.rmtree(final)
      source.rename(final)
    new = stamp.with_suffix(".new")
    lines = [self.keys[task.name], *map(str, moves.values())]
    new.write_text("\n".join(lines) + "\n")
    new.rename(stamp)


def run(
    what: str,
    out: pathlib.Path,
    tasks: list[Task],
    keys: dict[str, str],
    jobs: int,
    preload: tuple[str, ...] = (),
) -> None:
  """Makes all tasks not done yet; ends the program if one fails.

  Args:
    preload: modules that most of the tasks need.
  """
  # Side by side each has its share of the cores: more threads would wait busily.
  threads = max(1, (os.cpu_count() or 1) // jobs)
  os.environ.setdefault("OMP_NUM_THREADS", str(threads))
  shop = _Workshop(out, keys, preload)
  shop.private.mkdir(parents=True, exist_ok=True)
  with open(shop.private / "lock", "w") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      print(f"waiting for another run that makes {what} …", flush=True)
      fcntl.flock(lock, fcntl.LOCK_EX)
    for left in shop.private.glob("new-*"):  # by an interrupted run
      shutil.rmtree(left, ignore_errors=True)
    todo = [task for task in tasks if not shop.done(task.name)]
    if not todo:
      print(f"{what}: all {len(tasks)} are there", flush=True)
      return
    # So that the processes below are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
      _run_all(shop, todo, jobs)
    except KeyboardInterrupt:
      sys.exit(130)
    finally:
      shutil.rmtree(shop.new, ignore_errors=True)


def _run_all(shop: _Workshop, todo: list[Task], jobs: int) -> None:
  total = len(todo)
  waiting = list(todo)
  running: list[_Running] = []
  finished = 0
  try:
    while waiting or running:
      missing = {task.name for task in waiting}
      missing |= {item.task.name for item in running}
      for task in list(waiting):
        if len(running) < jobs and not missing & set(task.needs):
          waiting.remove(task)
          running.append(shop.start(task))
          print(f"        {task.name} …", flush=True)
      time.sleep(0.1)
      for item in [r for r in running if not r.process.is_alive()]:
        running.remove(item)
        finished += 1
        _finish(shop, item, f"[{finished}/{total}]")
  finally:
    for item in running:
      item.process.kill()
      item.process.join()


def _finish(shop: _Workshop, item: _Running, count: str) -> None:
  seconds = time.monotonic() - item.start
  name = item.task.name
  if item.process.exitcode == 0 and item.target.exists():
    shop.keep(item.task, item.target)
    print(f"{count:>7} {name} … {seconds:.0f} s", flush=True)
    return
  tail = item.log.read_text(errors="replace").splitlines()[-30:]
  print("\n".join(tail), file=sys.stderr)
  sys.exit(
      f"making {name} failed (exit code {item.process.exitcode}); the whole"
      f" log is {item.log}"
  )
