#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what every recipe of the converters costs, on real models.

Makes the files of recipe_table.py (make_models.py's group `recipes`), runs
verify_tflite on each over the evaluation text and the default prompts, and
prints the Markdown tables of docs/measured/recipes.md. Results are kept, so that
a run that was interrupted goes on where it stopped; files of the same bytes are
measured once.
"""

import argparse
from collections.abc import Iterable
import hashlib
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import recipe_table
import work

_HEADER = (
    "recipe",
    "converter",
    "MB",
    "mean KLD ± SE",
    "p99 KLD",
    "max KLD",
    "flips %",
    "ties %",
    "max \\|Δlogit\\|",
    "perplexity PyTorch → TFLite",
    "outcome",
)


def _last_error(log: str) -> str:
  """The line that says why, of what a failed process wrote."""
  lines = [line.strip() for line in log.splitlines() if line.strip()]
  error = re.compile(r"(\w+\.)*\w*(Error|Exception)\b")
  errors = [line for line in lines if error.match(line)]
  return (errors or lines or ["no output"])[-1].replace("|", "\\|")


def _make(file: str, models: pathlib.Path) -> str | None:
  """Makes a file if need be; what was wrong if that fails."""
  script = pathlib.Path(__file__).with_name("make_models.py")
  done = subprocess.run(
      [sys.executable, str(script), "--out", str(models), file],
      capture_output=True,
      text=True,
  )
  return None if done.returncode == 0 else _last_error(done.stderr)


def _sha256(path: pathlib.Path) -> str:
  with open(path, "rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _kept(path: pathlib.Path, flags: list[str]) -> dict[str, Any] | None:
  """An earlier result, if it was made with these flags."""
  try:
    result = json.loads(path.read_text())
  except (FileNotFoundError, json.JSONDecodeError):
    return None
  typed = result["environment"]["command"]
  return result if all(flag in typed for flag in flags) else None


def _measure(
    program: pathlib.Path,
    file: pathlib.Path,
    checkpoint: pathlib.Path,
    kept: pathlib.Path,
    tokens: int,
) -> dict[str, Any] | str:
  """The program's result, or what it said where there is none."""
  # Neither changes the figures. What is wrong with a recipe is not looked for.
  flags = [f"--eval_tokens={tokens}", "--self_check=off", "--locate=off"]
  # Named by the contents: the figures are theirs.
  path = kept / f"{checkpoint.name}-{_sha256(file)[:16]}.json"
  kept_result = _kept(path, flags)
  if kept_result is not None:
    return kept_result
  done = subprocess.run(
      [
          str(program),
          f"--tflite_path={file}",
          f"--checkpoint_path={checkpoint}",
          f"--json={path}",
          "--quiet",
          *flags,
      ],
      capture_output=True,
      text=True,
  )
  # 2: could not check.
  if done.returncode not in (0, 1, 3):
    return _last_error(done.stderr or done.stdout)
  result: dict[str, Any] = json.loads(path.read_text())
  return result


def _cells(row: recipe_table.Row, size: int, result: dict[str, Any]) -> list[str]:
  figures = result["all"]
  kld = figures["kld"]
  # Of the text alone: a model is always sure of what it wrote itself.
  text = result["evaluation"]["figures"]
  count = kld["count"]

  def share(n: int) -> str:
    return f"{100 * n / count:.2f}" if count else "–"

  def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"

  # There is no mean where a position is not finite.
  return [
      f"`{row.recipe}`",
      row.converter,
      f"{size / 1e6:.0f}",
      f"{number(kld['mean'])} ± {number(kld['standard_error'])}",
      number(kld["p99"]),
      number(kld["max"]),
      share(figures["flips"]),
      share(figures["ties"]),
      number(figures["max_abs"]),
      f"{number(text['reference_perplexity'])} →"
      f" {number(text['candidate_perplexity'])}",
      result["outcome"],
  ]


def _row(args: argparse.Namespace, row: recipe_table.Row, kept: pathlib.Path) -> list[str]:
  def without(reason: str) -> list[str]:
    blank = [""] * (len(_HEADER) - 3)
    return [f"`{row.recipe}`", row.converter, *blank, reason]

  if args.make:
    problem = _make(row.file, args.models)
    if problem:
      return without(f"not made: {problem}")
  file = args.models / row.file
  if not file.exists():
    log = args.models / ".made" / f"{row.file}.log"
    reason = _last_error(log.read_text()) if log.exists() else "not tried"
    return without(f"not made: {reason}")
  result = _measure(
      args.program, file, args.models / row.checkpoint, kept, args.eval_tokens
  )
  if isinstance(result, str):
    return without(f"not run: {result}")
  return _cells(row, file.stat().st_size, result)


def _line(cells: Iterable[str]) -> str:
  return f"| {' | '.join(cells)} |"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
      "--program", type=pathlib.Path, required=True, help="verify_tflite"
  )
  parser.add_argument(
      "--models", type=pathlib.Path, default=work.cache_dir() / "models"
  )
  parser.add_argument(
      "--results", type=pathlib.Path, default=work.cache_dir() / "recipes"
  )
  parser.add_argument("--eval_tokens", type=int, default=2048)
  parser.add_argument(
      "--only", default="", help="regular expression: `model converter recipe`"
  )
  parser.add_argument(
      "--no-make",
      dest="make",
      action="store_false",
      help="measure what is there",
  )
  args = parser.parse_args()
  args.results.mkdir(parents=True, exist_ok=True)
  model = None
  for row in recipe_table.ROWS:
    if not re.search(args.only, f"{row.model} {row.converter} {row.recipe}"):
      continue
    if row.model != model:
      model = row.model
      print(f"\n### {model}\n\n{_line(_HEADER)}")
      print(_line(["---"] * len(_HEADER)), flush=True)
    print(_line(_row(args, row, args.results)), flush=True)


if __name__ == "__main__":
  main()
