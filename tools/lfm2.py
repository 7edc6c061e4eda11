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
import mutations
import numpy as np
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
    # Not __file__: what makes a model is the same wherever this file lies.
    here = _export_here.__code__.co_filename
    given = json.dumps([str(checkpoint), work_dir, options])
    subprocess.run(
        [sys.executable, here, given],
        env=os.environ | {"PYTHONPATH": str(_packages(packages))},
        check=True,
    )
    made = pathlib.Path(work_dir)
    if out.suffix:
      next(made.rglob(f"*{out.suffix}")).rename(out)
      return
    for model in made.rglob("*.tflite"):
      model.rename(out / model.name)


def _states(conversion: mutations.Conversion, graph: Any) -> list[Any]:
  """What joins each state and what is convolved."""
  item = next(
      item
      for item in conversion.model.signatureDefs
      if conversion.model.subgraphs[item.subgraphIndex] is graph
  )
  inputs = {
      int(end.tensorIndex)
      for end in item.inputs
      if end.name.startswith(b"kv_cache_c_")
  }
  return [
      op
      for op in conversion.operators(graph, "CONCATENATION")
      if int(op.inputs[0]) in inputs
  ]


def state_lost(out: pathlib.Path, base: pathlib.Path) -> None:
  """Each run convolves as if nothing was before it."""
  conversion = mutations.Conversion(base)
  for graph in conversion.signatures():
    for op in _states(conversion, graph):
      state = int(op.inputs[0])
      shape = [int(n) for n in graph.tensors[state].shape]
      zeros = conversion.new_constant(graph, np.zeros(shape, np.float32), state)
      conversion.set_input(op, 0, zeros)
  conversion.save(out)


def mask_lost(out: pathlib.Path, base: pathlib.Path) -> None:
  """No token is a pad."""
  conversion = mutations.Conversion(base)
  for graph in conversion.prefills():
    for op in conversion.operators(graph, "NOT_EQUAL"):
      old = int(op.inputs[1])
      never = conversion.new_constant(graph, np.array(-1, np.int32), old)
      conversion.set_input(op, 1, never)
  conversion.save(out)


def gates_swapped(out: pathlib.Path, base: pathlib.Path) -> None:
  """B and C in each other's place."""
  conversion = mutations.Conversion(base)
  for graph in conversion.signatures():
    slices: dict[int, list[Any]] = {}
    for op in conversion.operators(graph, "SLICE"):
      slices.setdefault(int(op.inputs[0]), []).append(op)
    for parts in slices.values():
      if len(parts) != 3:
        continue
      first, second = parts[:2]
      begins = int(first.inputs[1]), int(second.inputs[1])
      conversion.set_input(first, 1, begins[1])
      conversion.set_input(second, 1, begins[0])
  conversion.save(out)


def _reverse(
    conversion: mutations.Conversion, graph: Any, op: Any, axis: int
) -> None:
  """Reverses the constant that an operator takes second."""
  old = int(op.inputs[1])
  taps = conversion.constant(graph, old)
  assert taps is not None
  made = np.ascontiguousarray(np.flip(taps, axis))
  conversion.set_input(op, 1, conversion.new_constant(graph, made, old))


def taps_reversed(out: pathlib.Path, base: pathlib.Path) -> None:
  """Convolutions with their taps in the other order."""
  conversion = mutations.Conversion(base)
  for graph in conversion.prefills():
    for op in conversion.operators(graph, "DEPTHWISE_CONV_2D"):
      _reverse(conversion, graph, op, axis=2)
  graph = conversion.decode
  joined = {int(op.outputs[0]) for op in _states(conversion, graph)}
  for op in conversion.operators(graph, "MUL"):
    if int(op.inputs[0]) not in joined:
      continue
    _reverse(conversion, graph, op, axis=-1)
  conversion.save(out)


def _export_here(checkpoint: str, to: str, options: dict[str, Any]) -> None:
  """In the process of its own."""
  conversions.stub_tensorflow()
  from litert_torch.generative.export_hf import export as export_hf

  export_hf.export(checkpoint, to, **options)


if __name__ == "__main__":
  _export_here(*json.loads(sys.argv[1]))
