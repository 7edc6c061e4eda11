# SPDX-License-Identifier: Apache-2.0
"""Loads what most makers need, without what it says on standard error.

make_models.py has it loaded once, in the process that makers are forked from.
"""

import os

_stderr = os.dup(2)
_nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
try:
  import litert_torch  # noqa: F401
  import torch  # noqa: F401
  import transformers  # noqa: F401
finally:
  os.dup2(_stderr, 2)
  os.close(_stderr)
  os.close(_nowhere)
