#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds verify_tflite to the table of conversions broken on purpose.

Runs the program on every row of mutation_table.py and on every sound
conversion, and prints the Markdown table of docs/mutations.md: fault,
strength, verdict, finding, correct? With --proofs also, where a checkpoint can
have the same fault, how near the file comes to one that has (mutation_proof.py).
Exits 1 if any verdict or proof is not the one it must be. `make_models.py mutations`
makes what it reads.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import mutation_proof
import mutation_table
import work


_LOSSY = ("pass", "degraded", "broken")
_SOUND = "none"  # the fault of a sound file, of which every operator is verified


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
  proven: bool = False  # every operator was verified


def _figures(result: dict) -> tuple[float, int, int]:
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
    )
    if not path.exists():
      lines = done.stdout.strip().splitlines() or ["no output"]
      return Run(
          "error",
          [],
          math.nan,
          0,
          0,
          f"exit code {done.returncode}: {lines[-1][:200]}",
      )
    result = json.loads(path.read_text())
  mean, same, positions = _figures(result)
  proofs = {check["name"]: check for check in result["structure_checks"]}
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
      proven=proofs.get("structure", {}).get("outcome") == "pass",
  )


def hidden(row: mutation_table.Mutation, run: Run) -> bool:
  """Not seen, as the fault is smaller than the recipe's noise."""
  return row.may_hide and run.outcome == "pass" and not run.findings


def correct(row: mutation_table.Mutation, run: Run) -> bool:
  """One of the right outcomes, for one of the right reasons."""
  if hidden(row, run):
    return True
  if run.outcome not in row.outcomes or (row.unproven and run.proven):
    return False
  if row.make is None and row.fault == _SOUND and not run.proven:
    return False
  if not row.findings:
    return not run.findings
  return (
      bool(run.findings)
      and run.findings[0] in row.findings
      and all(figure in run.sentence for figure in row.says)
  )


def _rows() -> list[mutation_table.Mutation]:
  sound = [
      mutation_table.Mutation(file, checkpoint, _SOUND, ("pass",), ())
      for file, checkpoint in mutation_table.SOUND
  ]
  lossy = [
      mutation_table.Mutation(file, checkpoint, _SOUND, _LOSSY, ())
      for file, checkpoint in mutation_table.LOSSY
  ]
  return mutation_table.MUTATIONS + sound + lossy


def _cell(row: mutation_table.Mutation, run: Run) -> list[str]:
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
  if hidden(row, run):
    right = "not seen: below the noise"
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


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
      "--only",
      default="",
      help="rows whose file, checkpoint or fault has this in it",
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
      "--proofs",
      action="store_true",
      help="also verify the files against checkpoints with the same fault",
  )
  args = parser.parse_args()
  rows = [
      row
      for row in _rows()
      if args.only in f"{row.file}\n{row.checkpoint}\n{row.fault}"
  ]
  if not rows:
    sys.exit(f"mutation_suite.py: no row with '{args.only}'")
  for row in rows:
    for name in (row.file, row.checkpoint):
      if not (args.models / name).exists():
        sys.exit(
            f"mutation_suite.py: {args.models / name} is missing; run"
            " tools/make_models.py mutations"
        )
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

  def run_row(row):
    run = verify(
        args.build / "verify_tflite",
        args.models / row.file,
        args.models / row.checkpoint,
        row.flags,
    )
    cells = _cell(row, run)
    right = correct(row, run)
    if args.proofs:
      proof, holds = mutation_proof.prove(row, args.build, args.models)
      cells.append(proof)
      right = right and holds
    return cells, right

  wrong = 0
  with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
    for cells, right in pool.map(run_row, rows):
      wrong += not right
      print("| " + " | ".join(cells) + " |", flush=True)
  print(f"\n{len(rows) - wrong} of {len(rows)} verdicts are right.")
  sys.exit(1 if wrong else 0)


if __name__ == "__main__":
  main()
