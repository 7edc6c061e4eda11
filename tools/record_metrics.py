#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what result/metrics must compute: testdata/metrics.json.

The formulas are evaluated by NumPy in extended precision on float32 rows, by
another route than the C++ code (explicit softmax, np.std), so that a slip in
one does not hide in the other. Run it again after changing the cases:

    python tools/record_metrics.py
"""

import json
import pathlib
from typing import Any

import numpy as np


def softmax(row: np.ndarray) -> np.ndarray:
  e = np.exp(row - row.max())
  return e / e.sum()


def measure(reference: np.ndarray, candidate: np.ndarray) -> dict[str, Any]:
  r, c = (x.astype(np.longdouble) for x in (reference, candidate))
  p, q = softmax(r), softmax(c)
  nonzero = p > 0
  with np.errstate(divide='ignore'):
    kld = np.sum(p[nonzero] * (np.log(p[nonzero]) - np.log(q[nonzero])))
  top, other = int(np.argmax(reference)), int(np.argmax(candidate))
  text = len(reference) // 3
  return {
      'reference': reference.tolist(),
      'candidate': candidate.tolist(),
      'kld': float(kld),
      'max_abs': float(np.abs(c - r).max()),
      'mean_abs': float(np.abs(c - r).mean()),
      'rms': float(np.std(c - r)),
      'reference_token': top,
      'candidate_token': other,
      'margin': float(r[top] - r[other]),
      'nmse': float(np.var(c - r) / np.var(r)) if np.var(c - r) > 0 else 0.0,
      # A stable sort of the negated row keeps the first of equals first.
      'rank': int(np.argsort(-candidate, kind='stable').tolist().index(top)),
      'text_token': text,
      'reference_logprob': float(np.log(p[text])),
      'candidate_logprob': float(np.log(q[text])),
  }


def cases() -> dict[str, Any]:
  rng = np.random.default_rng(1)
  row = (rng.standard_normal(64) * 3).astype(np.float32)
  noise = rng.standard_normal(64).astype(np.float32)
  shifted = np.roll(row, 1)
  tie = np.array([1, 2, 2, 0], np.float32)
  return {
      'equal': (row, row),
      'float_noise': (row, row + np.float32(1e-5) * noise),
      'quantisation_noise': (row, row + np.float32(0.3) * noise),
      'offset_only': (row, row + np.float32(8)),
      'unrelated': (row, shifted),
      'large_values': (row * 100, shifted * 100),
      'equal_maxima_take_the_first': (tie, tie[::-1].copy()),
      'one_entry': (tie[:1], tie[1:2]),
  }


def main() -> None:
  out = pathlib.Path(__file__).parent.parent / 'testdata' / 'metrics.json'
  result = {name: measure(*pair) for name, pair in cases().items()}
  out.write_text(json.dumps(result, indent=1) + '\n')
  print(f'{out.name}: {len(result)} cases')


if __name__ == '__main__':
  main()
