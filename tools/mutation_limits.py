#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures how large a fault must be to rise above a recipe's noise.

Prints two Markdown tables. The first: one fault in growing sizes on a float and
on an int8 conversion of one model; the first row of each is the sound
conversion. The second: a setting changed by less and less, until local
verification does not find it. The files are made in a temporary directory, one
at a time.
"""

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import pathlib
import sys
import tempfile
from typing import Any

import mutation_run
import mutations
import work

Maker = Callable[..., None]

# Fault -> (maker, fixed options, option that grows, its values).
SERIES: dict[str, tuple[Maker, dict[str, Any], str, tuple[float, ...]]] = {
    "norm epsilon instead of 1e-5": (
        mutations.norm_eps,
        dict(old=1e-5),
        "new",
        (1e-6, 1e-4, 1e-3, 1e-2),
    ),
    "RoPE base times": (
        mutations.rope_base,
        {},
        "factor",
        (1.01, 1.1, 1.5, 3.0),
    ),
    "positions in decode off by": (
        mutations.decode_position,
        {},
        "shift",
        (1, 4),
    ),
}
# Fault -> (maker, fixed options, option that shrinks, its right value).
SHARP: dict[str, tuple[Maker, dict[str, Any], str, float]] = {
    "norm epsilon": (mutations.norm_eps, dict(old=1e-5), "new", 1e-5),
    "RoPE base": (mutations.rope_base, {}, "factor", 1.0),
    "attention scale": (mutations.composite_scale, {}, "factor", 1.0),
}
CHANGES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
MODELS = (
    ("tiny_f32.tflite", "tiny"),
    ("tiny_q8.tflite", "tiny"),
    ("smollm2_q8.tflite", "smollm2"),
)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
      "--build",
      type=pathlib.Path,
      default=pathlib.Path(__file__).resolve().parent.parent / "build",
  )
  parser.add_argument(
      "--models", type=pathlib.Path, default=work.cache_dir() / "models"
  )
  parser.add_argument("--only", default="", help="files with this in the name")
  parser.add_argument(
      "--sharp", action="store_true", help="print the second table alone"
  )
  args = parser.parse_args()
  models = [pair for pair in MODELS if args.only in pair[0]]

  def verify(
      fault: str, file: pathlib.Path, base: str, checkpoint: str
  ) -> mutation_run.Run:
    run = mutation_run.verify(
        args.build / "verify_tflite", file, args.models / checkpoint
    )
    if run.outcome == "error":
      sys.exit(f"mutation_limits.py: {base}, {fault}: {run.detail}")
    return run

  def row(fault: str, file: pathlib.Path, base: str, checkpoint: str) -> None:
    run = verify(fault, file, base, checkpoint)
    print(
        f"| {base} | {fault} | {run.mean_kld:.1e} |"
        f" {run.same_tokens}/{run.positions} | {run.outcome} |",
        flush=True,
    )

  @contextlib.contextmanager
  def made(base: str, make: Maker, options: dict[str, Any]) -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory() as directory:
      file = pathlib.Path(directory) / "model.tflite"
      make(file, args.models / base, **options)
      yield file

  if not args.sharp:
    print("| conversion | fault | mean KLD | same token | verdict |")
    print("|---|---|---|---|---|")
  for base, checkpoint in () if args.sharp else models:
    row("none", args.models / base, base, checkpoint)
    for fault, (make, options, name, values) in SERIES.items():
      for value in values:
        with made(base, make, options | {name: value}) as file:
          row(f"{fault} {value:g}", file, base, checkpoint)

  def found(base: str, checkpoint: str, fault: str, change: float) -> bool:
    make, options, name, right = SHARP[fault]
    with made(base, make, options | {name: right * (1 + change)}) as file:
      run = verify(f"{fault} {change:g}", file, base, checkpoint)
    return bool(run.findings)

  print("\n| conversion | setting | found when changed by | not when by |")
  print("|---|---|---|---|")
  for base, checkpoint in models:
    for fault in SHARP:
      seen, unseen = "–", "–"
      for change in CHANGES:
        if not found(base, checkpoint, fault, change):
          unseen = f"{change:.0e}"
          break
        seen = f"{change:.0e}"
      print(f"| {base} | {fault} | {seen} | {unseen} |", flush=True)


if __name__ == "__main__":
  main()
