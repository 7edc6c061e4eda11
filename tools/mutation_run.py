# SPDX-License-Identifier: Apache-2.0
"""One run of verify_tflite on one file, and what it said."""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import re
import subprocess
import tempfile
from typing import Any

import work

_PACKAGES = ("ai-edge-litert", "litert-lm-api")  # loaded later


@dataclasses.dataclass
class Run:
  """What the program said of one file."""

  outcome: str  # its own word, or "error" where there is no result
  findings: list[str]
  mean_kld: float  # NaN where a position has none
  same_tokens: int
  positions: int
  detail: str = ""
  sentence: str = ""  # of the first finding
  over_limit: bool = False  # the mean over all positions, of its recipe's
  # Every operator was verified; every byte of the weights, and of the tables.
  proven: bool = False
  whole_weights: bool = False
  whole_tables: bool = False
  # The largest divergence and logit difference of any prompt.
  kld: float = math.inf
  logits: float = math.inf


def _figures(result: dict[str, Any]) -> tuple[float, int, int]:
  """Mean KL divergence over all prompts, equal greedy tokens, positions."""
  rows = [row for prompt in result["prompts"] for row in prompt["positions"]]
  values = [row.get("kld") for row in rows]
  missing = not values or any(value is None for value in values)
  mean = math.nan if missing else math.fsum(values) / len(values)
  same = sum(
      row.get("reference_token") == row.get("candidate_token", -1)
      for row in rows
  )
  return mean, same, len(rows)


def _largest(result: dict[str, Any], name: str) -> float:
  """The largest value of a check of that name in any prompt."""
  values = [
      check.get("value")
      for prompt in result["prompts"]
      for check in prompt["checks"]
      if check["name"] == name
  ]
  if not values or None in values:
    return math.inf
  return float(max(values))


def _passes(checks: list[dict[str, Any]], name: str) -> bool:
  return any(
      check["name"] == name and check["outcome"] == "pass" for check in checks
  )


def verify(
    program: pathlib.Path,
    file: pathlib.Path,
    checkpoint: pathlib.Path,
    flags: tuple[str, ...] = (),
) -> Run:
  """Runs the program on one file."""
  with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory) / "result.json"
    done = subprocess.run(
        [
            str(program),
            f"--tflite_path={file}",
            f"--checkpoint_path={checkpoint}",
            f"--json={path}",
            "--num_threads=1",
            "--quiet",
            *flags,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if not path.exists():
      lines = done.stdout.strip().splitlines() or ["no output"]
      said = lines[-1].removeprefix("verify_tflite: error: ")
      said = said.replace(str(file), file.name).replace(str(checkpoint), checkpoint.name)
      detail = f"exit code {done.returncode}: {said[:200]}"
      return Run("error", [], math.nan, 0, 0, detail)
    result = json.loads(path.read_text())
  mean, same, positions = _figures(result)
  findings = result.get("findings", [])
  # NaN is null, and over any limit.
  overall = result["all"]["kld"]["mean"]
  return Run(
      result.get("outcome", "no outcome"),
      [finding["id"] for finding in findings],
      mean,
      same,
      positions,
      sentence=findings[0]["sentence"] if findings else "",
      over_limit=overall is None or overall > result["limits"]["kld"]["pass"],
      proven=_passes(result["structure_checks"], "structure"),
      whole_weights=_passes(result["weight_checks"], "weights"),
      whole_tables=_passes(result["weight_checks"], "tables"),
      kld=_largest(result, "kld"),
      logits=_largest(result, "logits"),
  )


@functools.cache
def content(path: pathlib.Path) -> str:
  """A hash of a file, or of all files of a directory with their names."""
  if path.is_dir():
    inside = sorted(p for p in path.rglob("*") if p.is_file())
    return work.digest([(str(p.relative_to(path)), content(p)) for p in inside])
  with path.open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def libraries(program: pathlib.Path) -> list[pathlib.Path]:
  """Returns all shared libraries that the loader finds for it."""
  listed = subprocess.run(
      ["ldd", program], capture_output=True, text=True, check=False
  ).stdout
  return sorted({pathlib.Path(p) for p in re.findall(r"(/\S+) \(0x", listed)})


@functools.cache
def _libraries(program: pathlib.Path) -> list[str]:
  """The contents of all shared libraries that the loader finds for it."""
  return [content(path) for path in libraries(program)]


@functools.cache
def machine() -> str:
  """The kind of CPU, by which kernels are chosen."""
  lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  kinds = {line for line in lines if line.startswith(("model name", "flags"))}
  return work.digest(sorted(kinds))


class Memory:
  """Runs of an earlier time, each kept under all that its outcome depends on.

  A run is kept only where `keep` is called, after what it said was right; and
  whoever takes one judges it again, by today's table.
  """

  def __init__(self, directory: pathlib.Path, build: pathlib.Path):
    self._directory = directory
    self._programs = [
        build / "verify_tflite",
        *sorted((build / "src" / "text").glob("*.so")),
        pathlib.Path(__file__),
    ]

  def _path(
      self,
      file: pathlib.Path,
      checkpoint: pathlib.Path,
      flags: tuple[str, ...],
  ) -> pathlib.Path:
    # A file's embedder lies beside it.
    inputs = file.parent if file.parent.name != "models" else file
    key = work.digest(
        [content(program) for program in self._programs],
        [_libraries(program) for program in self._programs],
        work.versions(_PACKAGES),
        machine(),
        file.name,
        content(inputs),
        content(checkpoint),
        flags,
    )
    return self._directory / f"{key}.json"

  def find(self, *key: Any) -> Run | None:
    path = self._path(*key)
    return Run(**json.loads(path.read_text())) if path.exists() else None

  def keep(self, run: Run, *key: Any) -> None:
    path = self._path(*key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, delete=False
    ) as stream:
      json.dump(dataclasses.asdict(run), stream)
    pathlib.Path(stream.name).rename(path)
