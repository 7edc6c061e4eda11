#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what result/statistics must compute: testdata/statistics.json.

NumPy's percentiles and SciPy's distributions and intervals, by other routes
than the C++ code where there are any. Run it again after changing the cases:

    python tools/record_statistics.py
"""

import itertools
import json
import pathlib
from typing import Any

import numpy as np
import scipy.stats

_BLOCK = 8  # kBlock of statistics.h


def _blocks(values: np.ndarray) -> list[float]:
  count = max(1, len(values) // _BLOCK)
  edges = [i * _BLOCK for i in range(count)] + [len(values)]
  return [values[a:b].mean() for a, b in itertools.pairwise(edges)]


def _sample(values: np.ndarray) -> dict[str, Any]:
  ordered = np.sort(values)
  n = len(values)
  half = scipy.stats.norm.ppf(0.975) * np.sqrt(n * 0.99 * 0.01)
  low, high = (int(np.ceil(n * 0.99 + sign * half)) for sign in (-1, 1))
  means = _blocks(values)
  result = {
      'values': values.tolist(),
      'mean': float(values.mean()),
      'median': float(np.median(values)),
      'p90': float(np.percentile(values, 90)),
      'p99': float(np.percentile(values, 99)),
      'max': float(values.max()),
      'p99_low': float(ordered[low - 1]) if low >= 1 else 0.0,
      'p99_high': float(ordered[high - 1]) if high <= n else None,
      'standard_error': None,
  }
  if len(means) > 1:
    error = scipy.stats.sem(means)
    result['standard_error'] = float(error)
    result['mean_half_width'] = float(
        error * scipy.stats.t.ppf(0.975, len(means) - 1)
    )
  return result


def _share(count: int, total: int) -> dict[str, Any]:
  interval = scipy.stats.binomtest(count, total).proportion_ci(
      0.95, method='wilson'
  )
  return {
      'count': count,
      'total': total,
      'low': float(interval.low),
      'high': float(interval.high),
  }


def main() -> None:
  rng = np.random.default_rng(2)
  samples = {
      'one': np.array([0.5]),
      'below_two_blocks': rng.lognormal(size=13),
      'two_blocks_and_a_part': rng.lognormal(size=21),
      'prompts': rng.lognormal(-4, 1.5, size=60),
      'evaluation': rng.lognormal(-4, 1.5, size=512),
      'equal': np.full(40, 2.0),
  }
  shares = [(0, 60), (3, 60), (60, 60), (1, 1), (41, 512)]
  result = {
      'samples': {name: _sample(values) for name, values in samples.items()},
      'shares': [_share(*pair) for pair in shares],
      'student': {
          str(n): float(scipy.stats.t.ppf(0.975, n))
          for n in (1, 2, 3, 4, 5, 6, 7, 10, 30, 63, 1000)
      },
  }
  out = pathlib.Path(__file__).parent.parent / 'testdata' / 'statistics.json'
  out.write_text(json.dumps(result) + '\n')
  print(f'{out.name}: {len(samples)} samples, {len(shares)} shares')


if __name__ == '__main__':
  main()
