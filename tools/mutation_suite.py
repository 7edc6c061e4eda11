#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds verify_tflite to the table of conversions broken on purpose.

Runs the program on every row of mutations.toml and on every sound conversion of
testdata/models.json, and prints the Markdown table of
docs/measured/mutations.md: fault, strength, verdict, finding, correct? Broken
files are evaluated on a short text and not compared with themselves, as neither
decides, and sound float ones on a quarter of the text; with --whole all run with
the defaults, as sound quantised ones always do. With --proofs (and
thus --whole) also, where a checkpoint can have the same fault, how near the
file comes to one that has (mutation_proof.py).

With --memory, rows whose program, models and packages are those of an earlier
run, in which they were right, are judged by what the program said then.

Exits 1 if any verdict or proof is not the one it must be. `make_models.py
mutations` makes what it reads.
"""

import argparse
import concurrent.futures
import pathlib
import sys

import mutation_proof
import mutation_run
import mutation_table
import work

_SOUND = "none"  # the fault of a sound file
_SHORT = ("--eval_tokens=64", "--self_check=off", "--weights_cost=off")
# Of a float file no share and no tail of a distribution is judged, which is what
# 512 positions are for.
_FLOAT = ("--eval_tokens=128",)
# What rounding alone makes of float files.
_FLOAT_KLD = 1e-8
_FLOAT_LOGITS = 1e-3


def _is_float(sound: mutation_table.Sound) -> bool:
  return sound.weights == "float32" and sound.kv == "float32"


def _shorter(sound: mutation_table.Sound | None) -> tuple[str, ...]:
  """Flags that leave out what does not decide."""
  if sound is None:
    return _SHORT
  return _FLOAT if _is_float(sound) else ()


def _is_right_of_sound(
    sound: mutation_table.Sound, run: mutation_run.Run
) -> bool:
  """All operators, weights and tables are verified; floats agree as they can."""
  if not (run.proven and run.whole_weights and run.whole_tables):
    return False
  if not _is_float(sound) or sound.magnifies:
    return True
  return run.kld <= _FLOAT_KLD and run.logits <= _FLOAT_LOGITS


def correct(row: mutation_table.Mutation, run: mutation_run.Run) -> bool:
  """One of the right outcomes, for one of the right reasons."""
  if run.outcome not in row.outcomes or (row.unproven and run.proven):
    return False
  if row.sound is not None and not _is_right_of_sound(row.sound, run):
    return False
  if not row.findings:
    return not run.findings
  return (
      bool(run.findings)
      and run.findings[0] in row.findings
      and all(figure in run.sentence for figure in row.says)
  )


def _outcomes(sound: mutation_table.Sound) -> tuple[str, ...]:
  if sound.findings:
    return ("broken",)
  if sound.lossy:
    return ("pass", "inconclusive", "degraded", "broken")
  return ("pass",)


def _rows() -> list[mutation_table.Mutation]:
  """The faults; then the sound files, those that keep much first."""
  sound = [
      mutation_table.Mutation(
          sound.file,
          sound.checkpoint,
          _SOUND,
          _outcomes(sound),
          sound.findings,
          sound=sound,
      )
      for sound in sorted(mutation_table.SOUND, key=lambda s: s.lossy)
  ]
  return mutation_table.MUTATIONS + sound


def _cell(
    row: mutation_table.Mutation, run: mutation_run.Run
) -> list[str]:
  findings = ", ".join(run.findings) or "–"
  detail = run.detail or ("not faithful" if row.unproven else "")
  verdict = f"{run.outcome} ({detail})" if detail else run.outcome
  expected = ", ".join(
      " or ".join(words) or "–" for words in (row.outcomes, row.findings)
  )
  if run.findings and run.findings[0] in row.findings:
    expected += "".join(f", '{figure}'" for figure in row.says)
    expected += f", not '{run.sentence}'" if row.says else ""
  right = "yes" if correct(row, run) else f"**no**: {expected}"
  return [
      row.fault.replace("|", "\\|"),
      f"`{row.file}`",
      f"{run.mean_kld:.1e}",
      f"{run.same_tokens}/{run.positions}",
      "over" if run.over_limit else "under",
      verdict,
      findings,
      right,
  ]


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
      "--only",
      default="",
      help="rows whose file, checkpoint or fault has this in it",
  )
  parser.add_argument(
      "--shard",
      default="0/1",
      metavar="I/N",
      help="every N-th row, from the I-th on",
  )
  parser.add_argument(
      "--build",
      type=pathlib.Path,
      default=pathlib.Path(__file__).resolve().parent.parent / "build",
      help="directory of the program",
  )
  parser.add_argument(
      "--models", type=pathlib.Path, default=work.cache_dir() / "models"
  )
  parser.add_argument("--jobs", type=int, default=work.default_jobs())
  parser.add_argument(
      "--memory",
      type=pathlib.Path,
      help="where right runs are kept, to be taken for the same once more",
  )
  parser.add_argument(
      "--whole",
      action="store_true",
      help="run every file with the program's default flags",
  )
  parser.add_argument(
      "--proofs",
      action="store_true",
      help="also verify the files against checkpoints with the same fault",
  )
  args = parser.parse_args()
  args.whole = args.whole or args.proofs
  return args


def _chosen(args: argparse.Namespace) -> list[mutation_table.Mutation]:
  """The rows asked for, all of whose files are there."""
  first, step = (int(number) for number in args.shard.split("/"))
  rows = [
      row
      for row in _rows()
      if args.only in f"{row.file}\n{row.checkpoint}\n{row.fault}"
  ][first::step]
  if not rows:
    sys.exit(f"mutation_suite.py: no row with '{args.only}'")
  for row in rows:
    for name in (row.file, row.checkpoint):
      if not (args.models / name).exists():
        sys.exit(
            f"mutation_suite.py: {args.models / name} is missing; run"
            " tools/make_models.py mutations"
        )
  return rows


class _Suite:
  """Runs rows, or remembers what the program said of them."""

  def __init__(self, args: argparse.Namespace):
    self._args = args
    self._memory = (
        mutation_run.Memory(args.memory, args.build) if args.memory else None
    )

  def _run(self, row: mutation_table.Mutation) -> mutation_run.Run:
    args = self._args
    key = (
        args.models / row.file,
        args.models / row.checkpoint,
        row.flags + (() if args.whole else _shorter(row.sound)),
    )
    if self._memory is None:
      return mutation_run.verify(args.build / "verify_tflite", *key)
    run = self._memory.find(*key)
    if run is not None and correct(row, run):
      return run
    run = mutation_run.verify(args.build / "verify_tflite", *key)
    if correct(row, run):
      self._memory.keep(run, *key)
    return run

  def judge(self, row: mutation_table.Mutation) -> tuple[list[str], bool]:
    """The row's cells, and whether all is as it must be."""
    run = self._run(row)
    cells = _cell(row, run)
    right = correct(row, run)
    if self._args.proofs:
      proof, holds = mutation_proof.prove(
          row, self._args.build, self._args.models
      )
      cells.append(proof)
      right = right and holds
    return cells, right


def main() -> None:
  args = _arguments()
  rows = _chosen(args)
  header = [
      "fault",
      "file",
      "mean KLD",
      "same token",
      "limit",
      "verdict",
      "findings",
      "correct?",
  ]
  if args.proofs:
    header.append("proof")
  print("| " + " | ".join(header) + " |")
  print("|" + "---|" * len(header), flush=True)
  suite = _Suite(args)
  wrong = 0
  with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
    for cells, right in pool.map(suite.judge, rows):
      wrong += not right
      print("| " + " | ".join(cells) + " |", flush=True)
  print(f"\n{len(rows) - wrong} of {len(rows)} verdicts are right.")
  sys.exit(1 if wrong else 0)


if __name__ == "__main__":
  main()
