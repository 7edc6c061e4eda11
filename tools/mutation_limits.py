#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures how large a fault must be to rise above a recipe's noise.

Prints a Markdown table: one fault in growing sizes on a float and on an int8
conversion of one model. The first row of each is the sound conversion. The
files are made in a temporary directory, one at a time.
"""

import argparse
import pathlib
import sys
import tempfile

import mutation_suite
import mutations
import work

# Fault -> (maker, fixed options, option that grows, its values).
SERIES = {
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
  args = parser.parse_args()

  def row(fault: str, file: pathlib.Path, base: str, checkpoint: str) -> None:
    run = mutation_suite.verify(
        args.build / "verify_tflite", file, args.models / checkpoint
    )
    if run.outcome == "error":
      sys.exit(f"mutation_limits.py: {base}, {fault}: {run.detail}")
    print(
        f"| {base} | {fault} | {run.mean_kld:.1e} |"
        f" {run.same_tokens}/{run.positions} | {run.outcome} |",
        flush=True,
    )

  print("| conversion | fault | mean KLD | same token | verdict |")
  print("|---|---|---|---|---|")
  for base, checkpoint in MODELS:
    row("none", args.models / base, base, checkpoint)
    for fault, (make, options, name, values) in SERIES.items():
      for value in values:
        with tempfile.TemporaryDirectory() as directory:
          file = pathlib.Path(directory) / "model.tflite"
          make(file, args.models / base, **options, **{name: value})
          row(f"{fault} {value:g}", file, base, checkpoint)


if __name__ == "__main__":
  main()
