# SPDX-License-Identifier: Apache-2.0
"""Proves that broken conversions have the very fault that they are named for.

Each is verified against a checkpoint that was changed in the same way, by code
that knows nothing of the .tflite file: float conversions must then agree as
well as sound ones do. Prints a Markdown table and exits 1 if one does not.
"""

from collections.abc import Callable
import pathlib
import tempfile
from typing import Any

import mutated_checkpoints
import mutation_run
import mutation_table
import mutations
import work

# Sound conversions reach 1e-11 and 0.02.
LIMIT = 1e-8
LIMIT_INT8 = 0.04
_LAYER = "model.layers.{}."

Tensors = dict[str, Any]  # of torch
Config = dict[str, Any]
Patch = Callable[[Tensors, Config], None]
PatchLayer = Callable[[Tensors, Config, str], None]
Change = Callable[[Any], Any]  # of a tensor


def _config(**changes: Any) -> Patch:
  return lambda tensors, config: config.update(changes)


def _rope(**changes: Any) -> Patch:
  return lambda tensors, config: config["rope_parameters"].update(changes)


def _each_layer(change: PatchLayer) -> Patch:
  def patch(tensors: Tensors, config: Config) -> None:
    for i in range(config["num_hidden_layers"]):
      change(tensors, config, _LAYER.format(i))

  return patch


def _set(name: str, change: Change) -> Patch:
  def patch(tensors: Tensors, config: Config) -> None:
    tensors[name] = change(tensors[name]).contiguous()

  return patch


def _interleave(tensors: Tensors, config: Config, layer: str) -> None:
  for part in "qk":
    name = f"{layer}self_attn.{part}_proj.weight"
    rows = tensors[name]
    half = config["head_dim"] // 2
    tensors[name] = (
        rows.reshape(-1, 2, half, rows.shape[1])
        .transpose(1, 2)
        .reshape(rows.shape)
        .contiguous()
    )


def _head_parts(
    tensors: Tensors, config: Config, layer: str, names: str
) -> list[Any]:
  size = config["head_dim"]
  return [
      tensors[f"{layer}self_attn.{name}_proj.weight"].reshape(
          -1, size, config["hidden_size"]
      )
      for name in names
  ]


def _swap(a: Any, b: Any) -> None:
  """Exchanges the contents of two views."""
  old = a.clone()
  a.copy_(b)
  b.copy_(old)


def _swap_q_k(tensors: Tensors, config: Config, layer: str) -> None:
  q, k = _head_parts(tensors, config, layer, "qk")
  for group in range(2):
    _swap(q[2 * group + 1], k[group])


def _swap_k_v(tensors: Tensors, config: Config, layer: str) -> None:
  _swap(*_head_parts(tensors, config, layer, "kv"))


def _swap_kv_heads(tensors: Tensors, config: Config, layer: str) -> None:
  for part in _head_parts(tensors, config, layer, "kv"):
    _swap(part[0], part[1])


def _regroup(tensors: Tensors, config: Config, layer: str) -> None:
  # Heads 1 and 2 change places, and so do the KV heads that they attend to.
  (q,) = _head_parts(tensors, config, layer, "q")
  _swap(q[1], q[2])
  o = tensors[f"{layer}self_attn.o_proj.weight"]
  columns = o.reshape(o.shape[0], 4, -1)
  _swap(columns[:, 1], columns[:, 2])


def _layers(order: list[int]) -> Patch:
  def patch(tensors: Tensors, config: Config) -> None:
    old = dict(tensors)
    for i, source in enumerate(order):
      for name in old:
        if name.startswith(_LAYER.format(source)):
          to = name.replace(_LAYER.format(source), _LAYER.format(i), 1)
          tensors[to] = old[name].clone()

  return patch


def _skip(layer: int) -> Patch:
  def patch(tensors: Tensors, config: Config) -> None:
    for part in ("self_attn.o_proj", "mlp.down_proj"):
      tensors[f"{_LAYER.format(layer)}{part}.weight"].zero_()

  return patch


def _swap_norms(tensors: Tensors, config: Config) -> None:
  norms = ("input_layernorm", "post_attention_layernorm")
  _swap(*(tensors[f"{_LAYER.format(1)}{name}.weight"] for name in norms))


def _swap_gate_up(tensors: Tensors, config: Config, layer: str) -> None:
  _swap(*(tensors[f"{layer}mlp.{name}_proj.weight"] for name in ("gate", "up")))


def _untied(embedding: Change, head: Change) -> Patch:
  def patch(tensors: Tensors, config: Config) -> None:
    table = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = head(table).contiguous()
    tensors["model.embed_tokens.weight"] = embedding(table).contiguous()
    config["tie_word_embeddings"] = False

  return patch


def _roll(table: Any) -> Any:
  return table.roll(1, 0)


def _without_token(table: Any) -> Any:
  table = table.clone()
  table[1] = 0
  return table


def _same(table: Any) -> Any:
  return table.clone()


def _round(match: str, dimensions: int) -> Patch:
  def patch(tensors: Tensors, config: Config) -> None:
    import torch

    for name, old in tensors.items():
      if match in name and old.dim() == dimensions:
        tensors[name] = old.to(torch.bfloat16).to(old.dtype)

  return patch


def _minus_one(tensors: Tensors, config: Config) -> None:
  for name, old in tensors.items():
    if "norm" in name:
      tensors[name] = old - 1


def _zero_biases(tensors: Tensors, config: Config) -> None:
  for name, old in tensors.items():
    if name.endswith("bias"):
      old.zero_()


def _negate_head(weight: Any) -> Any:
  weight = weight.clone()
  weight[:, :16] *= -1
  return weight


def _without_row(weight: Any) -> Any:
  weight = weight.clone()
  weight[5] = 0
  return weight


def _gemma3_rope(kind: str, changes: dict[str, Any]) -> Patch:
  def patch(tensors: Tensors, config: Config) -> None:
    config["rope_parameters"][kind] = changes

  return patch


def _other_head(tensors: Tensors, config: Config) -> None:
  import safetensors.torch

  path = work.cache_dir() / "models" / "tiny_other" / "model.safetensors"
  other = safetensors.torch.load_file(path)["model.embed_tokens.weight"]
  _untied(_same, lambda table: other.clone())(tensors, config)


def _without_rope(layers: list[int]) -> Patch:
  # A SmolLM3 is a Llama of which some layers have no RoPE.
  return _config(
      model_type="smollm3",
      architectures=["SmolLM3ForCausalLM"],
      no_rope_layers=[int(i not in layers) for i in range(4)],
  )


def _without_qk_norm(tensors: Tensors, config: Config) -> None:
  # A Qwen 3 without them is a Mistral without a window.
  for name in list(tensors):
    if "q_norm" in name or "k_norm" in name:
      del tensors[name]
  config.update(
      model_type="mistral",
      architectures=["MistralForCausalLM"],
      sliding_window=None,
  )


def _mistral_tied(tensors: Tensors, config: Config) -> None:
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


# File -> what to do to its checkpoint's tensors and config.
PROOFS = {
    "tiny_wrong_rope": _rope(rope_theta=100000.0),
    "tiny_wrong_eps": _config(rms_norm_eps=1e-6),
    "tiny_wrong_layers": _layers([0, 2, 1, 3]),
    "mut_rope_base_x2": _rope(rope_theta=20000.0),
    "mut_rope_base_1_percent": _rope(rope_theta=10100.0),
    "mut_rope_none": _without_rope([0, 1, 2, 3]),
    "mut_rope_layer_lost": _without_rope([2]),
    "mut_rope_position_doubled": _rope(rope_type="linear", factor=0.5),
    "mut_rope_interleaved": _each_layer(_interleave),
    "mut_gemma3_rope_scaling_lost": _gemma3_rope(
        "full_attention", {"rope_type": "default", "rope_theta": 50000.0}
    ),
    "mut_gemma3_local_rope_base": _gemma3_rope(
        "sliding_attention", {"rope_type": "default", "rope_theta": 10000.0}
    ),
    "mut_gemma3_window_28": _config(sliding_window=28),
    "mut_gemma3_window_lost": _config(sliding_window=100000),
    # A Mistral is a Llama with a window.
    "mut_mask_window": _config(
        model_type="mistral",
        architectures=["MistralForCausalLM"],
        sliding_window=16,
    ),
    "mut_attention_scale": _each_layer(
        lambda tensors, config, layer: tensors[
            f"{layer}self_attn.q_proj.weight"
        ].mul_(4)
    ),
    "mut_attention_scale_1_percent": _each_layer(
        lambda tensors, config, layer: tensors[
            f"{layer}self_attn.q_proj.weight"
        ].mul_(1.01)
    ),
    "mut_gemma2_query_scalar": _config(query_pre_attn_scalar=20),
    "mut_gemma2_query_scalar_12": _config(query_pre_attn_scalar=12),
    "mut_gemma2_final_cap": _config(final_logit_softcapping=4.1),
    "mut_gemma2_attention_cap": _config(attn_logit_softcapping=3.2),
    "mut_eps_2e_5": _config(rms_norm_eps=2e-5),
    "mut_q8_eps_3e_5": _config(rms_norm_eps=3e-5),
    "mut_gemma2_no_final_capping": _config(final_logit_softcapping=None),
    "mut_gemma2_no_attention_capping": _config(attn_logit_softcapping=None),
    "mut_heads_q_k": _each_layer(_swap_q_k),
    "mut_heads_k_v": _each_layer(_swap_k_v),
    "mut_heads_kv": _each_layer(_swap_kv_heads),
    "mut_heads_grouping": _each_layer(_regroup),
    "mut_qwen3_no_qk_norm": _without_qk_norm,
    "mut_gemma3_embedding_scale": _untied(
        lambda table: table / 72**0.5, _same
    ),
    "mut_qwen2_no_bias": _zero_biases,
    "mut_eps_1e_3": _config(rms_norm_eps=1e-3),
    "mut_gemma3_norm_without_one": _minus_one,
    "mut_final_norm": _set(
        "model.norm.weight", lambda weight: weight * 0 + weight.mean()
    ),
    "mut_norms_swapped": _swap_norms,
    "mut_norms_bfloat16": _round("norm", 1),
    "mut_gate_up": _each_layer(_swap_gate_up),
    "mut_embedding_shifted": _untied(_roll, _same),
    "mut_embedding_lost": _untied(_without_token, _same),
    "mut_head_shifted": _untied(_same, _roll),
    "mut_head_other": _other_head,
    "mut_mistral_head_tied": _mistral_tied,
    "mut_layer_repeated": _layers([0, 1, 1, 3]),
    "mut_layer_skipped": _skip(2),
    "mut_weight_transposed": _set(
        _LAYER.format(1) + "self_attn.o_proj.weight", lambda weight: weight.T
    ),
    "mut_weight_zero": _set(
        _LAYER.format(2) + "mlp.down_proj.weight", lambda weight: weight * 0
    ),
    "mut_weight_row": _set(
        _LAYER.format(1) + "mlp.gate_proj.weight", _without_row
    ),
    "mut_weight_head_negated": _set(
        _LAYER.format(1) + "self_attn.o_proj.weight", _negate_head
    ),
    "mut_q8_layers": _layers([0, 2, 1, 3]),
    "mut_q8_rope": _rope(rope_theta=100000.0),
    "mut_weights_bfloat16": _round("", 2),
} | {
    row.file.removesuffix(".tflite"): _rope(**row.options["changes"])
    for row in mutation_table.MUTATIONS
    if row.make is mutations.rope_parameters
}


def prove(
    row: mutation_table.Mutation, build: pathlib.Path, models: pathlib.Path
) -> tuple[str, bool]:
  """How near a file comes to a checkpoint with its fault; is that near enough?

  Nothing, and no fault of the file, where no checkpoint can have it.
  """
  change = PROOFS.get(row.file.removesuffix(".tflite"))
  if change is None or row.sound is not None:
    return "", True
  with tempfile.TemporaryDirectory() as directory:
    checkpoint = pathlib.Path(directory) / "checkpoint"
    mutated_checkpoints.patched_checkpoint(
        checkpoint, models / row.checkpoint, change
    )
    run = mutation_run.verify(
        build / "verify_tflite",
        models / row.file,
        checkpoint,
        ("--max_new_tokens=16", *row.flags),
    )
  limit = LIMIT_INT8 if "_q8_" in row.file else LIMIT
  if run.mean_kld <= limit:
    return f"{run.mean_kld:.1e}", True
  return f"**no**: {run.mean_kld:.1e} {run.detail}".strip(), False
