# SPDX-License-Identifier: Apache-2.0
"""Gemma 3n: small checkpoints, their conversions, and these changed."""

from collections.abc import Iterator
import contextlib
import pathlib
import shutil
import statistics
from typing import Any

import conversions
import mutations
import numpy as np

_MODEL = "model.tflite"

_SLIDING = "sliding_attention"
_FULL = "full_attention"

_TEXT = dict(
    vocab_size=1000,
    hidden_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=2048,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    num_hidden_layers=4,
    layer_types=[_SLIDING, _FULL] * 2,
    num_kv_shared_layers=2,
    sliding_window=29,
    hidden_size_per_layer_input=16,
    laurel_rank=12,
    final_logit_softcapping=4.0,
    rope_parameters={
        _SLIDING: {"rope_type": "default", "rope_theta": 500.0},
        _FULL: {"rope_type": "default", "rope_theta": 20000.0},
    },
)

# Name -> settings of the text model, and whether it is inside a multimodal one.
CHECKPOINTS: dict[str, tuple[dict[str, Any], bool]] = {
    # As E2B and E4B, but that their MLPs are of one size.
    "ref_gemma3n": (
        dict(
            intermediate_size=[96, 96, 128, 128],
            activation_sparsity_pattern=[0.8, 0.5, 0.0, 0.0],
            vocab_size_per_layer_input=1000,
        ),
        True,
    ),
    # By itself, with every setting that published models do not change.
    "ref_gemma3n_text": (
        dict(
            intermediate_size=96,
            activation_sparsity_pattern=[0.6, 0.0, 0.9, 0.0],
            vocab_size_per_layer_input=900,
            attention_bias=True,
            altup_num_inputs=3,
            altup_active_idx=1,
            altup_correct_scale=False,
        ),
        False,
    ),
}

# Not converted; transformers wants timm for the tower of images.
_AUDIO = dict(
    hidden_size=32,
    conf_num_attention_heads=2,
    conf_num_hidden_layers=1,
    conf_attention_chunk_size=4,
    conf_attention_context_left=5,
    sscp_conv_channel_size=[4, 4],
    input_feat_size=16,
    vocab_size=8,
    vocab_offset=1008,
)
_VISION = dict(hidden_size=32, vocab_size=8, vocab_offset=1000)


@contextlib.contextmanager
def without_images() -> Iterator[None]:
  """Models of Gemma3nConfig have no tower of images, which text needs none of."""
  import torch
  from transformers.models.gemma3n import modeling_gemma3n

  whole = modeling_gemma3n.AutoModel

  class Towers:

    @staticmethod
    def from_config(config: Any, *args: Any, **kwargs: Any) -> Any:
      if config.model_type == "gemma3n_vision":
        return torch.nn.Identity()
      return whole.from_config(config, *args, **kwargs)

  modeling_gemma3n.AutoModel = Towers
  try:
    yield
  finally:
    modeling_gemma3n.AutoModel = whole


def _randomise(model: Any, logit_std: float) -> None:
  """As checkpoints._randomise_gemma4."""
  import torch

  text = model.config.get_text_config()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      part = name.split(".")[-2]
      if part == "embed_tokens":
        parameter.normal_(0, 1 / text.hidden_size**0.5)
      elif part == "embed_tokens_per_layer":
        parameter.normal_(0, 1 / text.hidden_size_per_layer_input**0.5)
      elif name.endswith(".bias"):
        parameter.normal_(0, 0.3)
      elif part == "modality_router":
        # It reads numbers that are divided by their number.
        parameter.normal_(0, text.hidden_size**0.5)
      elif part in ("prediction_coefs", "correction_coefs"):
        parameter.normal_(0, 0.3)
      elif parameter.dim() >= 2:
        parameter.normal_(0, 1.3 / parameter.shape[-1] ** 0.5)
      else:
        size = logit_std if part == "norm" else 1.0
        # Scores are not divided by the root of the head size.
        if part in ("q_norm", "k_norm"):
          size = 0.6
        parameter.uniform_(0.7 * size, 1.3 * size)


def checkpoint(
    out: pathlib.Path, text: dict[str, Any], multimodal: bool, seed: int
) -> None:
  """One of CHECKPOINTS."""
  import torch
  import transformers

  torch.manual_seed(seed)
  settings = _TEXT | text
  if multimodal:
    config = transformers.Gemma3nConfig(
        text_config=settings,
        vision_config=_VISION,
        audio_config=_AUDIO,
        # For record_expectations.py only.
        vocab_size=settings["vocab_size"],
    )
  else:
    config = transformers.Gemma3nTextConfig(**settings)
  with without_images():
    model = transformers.AutoModelForCausalLM.from_config(config)
  _randomise(model, logit_std=2.5)
  model.eval().save_pretrained(out)


@contextlib.contextmanager
def _with_cutoffs() -> Iterator[None]:
  """Models of Gemma 3n are loaded with the cutoffs that the exporter leaves out.

  Its MLP holds the number of deviations that a sparse layer cuts off at in a
  buffer that no checkpoint has, and transformers 5 makes a model without memory
  and gives it what the checkpoint has: the buffer then holds whatever was in
  memory before.
  """
  import torch
  from transformers.models.gemma3n import modeling_gemma3n

  base = modeling_gemma3n.Gemma3nPreTrainedModel
  whole = base.from_pretrained.__func__

  def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
    model = whole(cls, *args, **kwargs)
    for module in model.modules():
      if hasattr(module, "_std_multiplier"):
        factor = statistics.NormalDist().inv_cdf(module.activation_sparsity)
        module._std_multiplier = torch.tensor(factor)
    return model

  base.from_pretrained = classmethod(from_pretrained)
  try:
    yield
  finally:
    del base.from_pretrained


def export(out: pathlib.Path, checkpoint: pathlib.Path, **options: Any) -> None:
  """conversions.export_hf_with, with cutoffs and without the tower of images."""
  with without_images(), _with_cutoffs():
    conversions.export_hf_with(out, checkpoint, **options)


def _sparse(conversion: mutations.Conversion, graph: Any) -> list[Any]:
  """The factors of standard deviations that sparse layers cut off at."""
  roots = {
      int(op.outputs[0]) for op in conversion.operators(graph, "SQRT")
  }
  return [
      op
      for op in conversion.operators(graph, "MUL")
      if int(op.inputs[0]) in roots
      and conversion.constant(graph, op.inputs[1]) is not None
  ]


def cutoffs(out: pathlib.Path, base: pathlib.Path, factor: float) -> None:
  """Sparse layers cut off at other numbers."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  for graph in conversion.signatures():
    for op in _sparse(conversion, graph):
      old = int(op.inputs[1])
      shape = [int(n) for n in graph.tensors[old].shape]
      made = np.full(shape, factor, np.float32)
      op.inputs = [op.inputs[0], conversion.new_constant(graph, made, old)]
  conversion.save(out / _MODEL)


def sparsity_lost(out: pathlib.Path, base: pathlib.Path) -> None:
  """The activation applies to all that gate gives."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  for graph in conversion.signatures():
    made = {int(op.outputs[0]): op for op in conversion.operators(graph, "SUB")}
    for op in conversion.operators(graph, "GELU"):
      cut = made.get(int(op.inputs[0]))
      if cut is not None:
        op.inputs = [cut.inputs[0]]
  conversion.repack = True
  conversion.save(out / _MODEL)


def laurel_lost(out: pathlib.Path, base: pathlib.Path, rank: int) -> None:
  """What attention reads is added without what Laurel makes of it."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  for graph in conversion.signatures():
    for left in conversion.operators(graph, "FULLY_CONNECTED"):
      if int(graph.tensors[left.outputs[0]].shape[-1]) != rank:
        continue
      read = int(left.inputs[0])
      for op in conversion.operators(graph, "ADD"):
        if read not in list(op.inputs):
          continue
        total = int(op.outputs[0])
        for user in graph.operators:
          user.inputs = [read if i == total else int(i) for i in user.inputs]
  conversion.repack = True
  conversion.save(out / _MODEL)


def correction_lost(out: pathlib.Path, base: pathlib.Path) -> None:
  """What corrects the streams has no one added."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  count = 0
  for graph in conversion.signatures():
    for op in conversion.operators(graph, "FULLY_CONNECTED"):
      bias = conversion.constant(graph, op.inputs[2])
      if bias is not None and (bias == 1).all():
        bias[...] = 0
        count += 1
  assert count, "no correction has a bias of ones"
  conversion.save(out / _MODEL)


def other_cache(
    out: pathlib.Path, base: pathlib.Path, right: int, wrong: int
) -> None:
  """The last layer takes the keys and values of another layer."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  graph = conversion.decode
  signature = next(
      s for s in conversion.model.signatureDefs if s.signatureKey == b"decode"
  )
  caches = {o.name.decode(): int(o.tensorIndex) for o in signature.outputs}
  for part in "kv":
    # What readers take is the cache turned, by one operator.
    turned = {}
    for layer in (right, wrong):
      cache = caches[f"kv_cache_{part}_{layer}"]
      (turn,) = [op for op in graph.operators if cache in list(op.inputs)]
      turned[layer] = int(turn.outputs[0])
    last = [op for op in graph.operators if turned[right] in list(op.inputs)][-1]
    last.inputs = [
        turned[wrong] if i == turned[right] else int(i) for i in last.inputs
    ]
  conversion.repack = True
  conversion.save(out / _MODEL)


def without_laurel(out: pathlib.Path, base: pathlib.Path, rank: int) -> None:
  """What attention reads is added alone."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  for graph in conversion.signatures():
    adds = list(conversion.operators(graph, "ADD"))
    totals = {}
    for left in conversion.operators(graph, "FULLY_CONNECTED"):
      if int(graph.tensors[left.outputs[0]].shape[-1]) != rank:
        continue
      read = int(left.inputs[0])
      (added,) = [op for op in adds if read in list(op.inputs)]
      totals[int(added.outputs[0])] = read
    assert totals, "no Laurel"
    for op in graph.operators:
      op.inputs = [totals.get(int(i), int(i)) for i in op.inputs]
  conversion.repack = True
  conversion.save(out / _MODEL)
