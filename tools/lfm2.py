# SPDX-License-Identifier: Apache-2.0
"""LFM2: small checkpoints, and their conversions by a transformers that works.

litert-torch 0.10.0 exports LFM2 with transformers 5.10 to 5.14; in 5.24 its
patch of the decoder layer does not know the name of an argument. Exports run in
a process that finds 5.14 (requirements-lfm2.txt) before the environment's own.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import checkpoints
import conversions
import mutated_checkpoints
import work

_CONV = "conv"
_FULL = "full_attention"

_SIZES = dict(
    vocab_size=1000,
    hidden_size=96,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)

# Name -> settings.
CHECKPOINTS: dict[str, dict[str, Any]] = {
    # As published: attention in some layers, the last one a convolution.
    "ref_lfm2": dict(
        num_hidden_layers=4,
        layer_types=[_CONV, _FULL, _CONV, _CONV],
        intermediate_size=210,
        block_multiple_of=16,
    ),
    # With every setting that published models do not change.
    "ref_lfm2_bias": dict(
        num_hidden_layers=3,
        layer_types=[_FULL, _CONV, _FULL],
        intermediate_size=112,
        block_auto_adjust_ff_dim=False,
        conv_bias=True,
        conv_L_cache=4,
        norm_eps=1e-3,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    ),
}


def _randomise(model: Any, logit_std: float) -> None:
  """As checkpoints._randomise_further; taps of convolutions are large."""
  import torch

  checkpoints._randomise_further(model, logit_std)
  hidden = model.config.hidden_size
  size = 1.0
  if model.config.tie_word_embeddings:
    size = logit_std / (0.5 * hidden**0.5)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if name.endswith("conv.conv.weight"):
        parameter.normal_(0, 1 / parameter.shape[-1] ** 0.5)
      elif name.endswith("embedding_norm.weight"):
        parameter.uniform_(0.7 * size, 1.3 * size)


def checkpoint(
    out: pathlib.Path, settings: dict[str, Any], seed: int
) -> None:
  """One of the checkpoints of CHECKPOINTS."""
  import torch
  import transformers

  config = transformers.Lfm2Config(**(_SIZES | settings))
  torch.manual_seed(seed)
  model = transformers.AutoModelForCausalLM.from_config(config)
  _randomise(model, logit_std=2.5)
  model.eval().save_pretrained(out)


# As requirements-lfm2.txt pins them.
PACKAGES = [
    line
    for line in pathlib.Path(__file__)
    .with_name("requirements-lfm2.txt")
    .read_text()
    .splitlines()
    if line and not line.startswith("#")
]


def _packages(wanted: list[str]) -> pathlib.Path:
  """What tools/setup.sh has put there."""
  found = work.cache_dir() / "lfm2_packages"
  for line in wanted:
    name, version = line.split("==")
    if not (found / f"{name}-{version}.dist-info").is_dir():
      raise FileNotFoundError(f"no {line} in {found}: run tools/setup.sh")
  return found


def with_tokenizer(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    tokenizer: pathlib.Path,
    pad_token: str,
) -> None:
  """A checkpoint with a tokenizer that has a pad token of its own.

  That of SmolLM2 ends messages, which a file for which it is a pad cannot be
  given.
  """
  mutated_checkpoints.with_tokenizer(out, checkpoint, tokenizer)
  settings = out / "tokenizer_config.json"
  content = json.loads(settings.read_text()) | {"pad_token": pad_token}
  settings.write_text(json.dumps(content, indent=2) + "\n")


def export(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    packages: list[str],
    **options: Any,
) -> None:
  """export_hf: one model, a bundle or, of several files, a directory.

  Args:
    packages: what the process is to find; other ones make another model.
  """
  options = dict(quantization_recipe="none", bundle_litert_lm=False) | options
  with tempfile.TemporaryDirectory(dir=out.parent) as work_dir:
    subprocess.run(
        [sys.executable, __file__, json.dumps([str(checkpoint), work_dir, options])],
        env=os.environ | {"PYTHONPATH": str(_packages(packages))},
        check=True,
    )
    made = pathlib.Path(work_dir)
    if out.suffix:
      next(made.rglob(f"*{out.suffix}")).rename(out)
      return
    for model in made.rglob("*.tflite"):
      model.rename(out / model.name)


def _export_here(checkpoint: str, to: str, options: dict[str, Any]) -> None:
  """In the process of its own."""
  conversions.stub_tensorflow()
  from litert_torch.generative.export_hf import export as export_hf

  export_hf.export(checkpoint, to, **options)


if __name__ == "__main__":
  _export_here(*json.loads(sys.argv[1]))
