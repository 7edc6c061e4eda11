#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one of litert-torch's example converters without TensorFlow.

litert-torch 0.10.0 imports TensorFlow for a schema module that ai-edge-litert
has too, and uses nothing else of it in these examples. This saves installing
it:

    python tools/litert_torch_example.py tiny_llama --checkpoint_path=... \
        --output_path=. --quantize=dynamic_int8

The first argument names a package of litert_torch.generative.examples; the
rest goes to its convert_to_tflite.
"""

import runpy
import sys

import conversions


def main() -> None:
  if len(sys.argv) < 2 or sys.argv[1].startswith('-'):
    sys.exit(__doc__)
  name = sys.argv.pop(1)
  conversions.stub_tensorflow()
  runpy.run_module(
      f'litert_torch.generative.examples.{name}.convert_to_tflite',
      run_name='__main__',
      alter_sys=True,
  )


if __name__ == '__main__':
  main()
