#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes checkpoints and converted models for tests and demo.

What is there and was made by the same recipe is not made again. Every model is
made in a process of its own, for the converters keep gigabytes of memory.
"""

import argparse
from collections.abc import Callable
import dataclasses
import math
import pathlib
import sys
from typing import Any
from typing import Protocol

import checkpoints
import containers
import conversions
import gemma3n
import gemma4
import lfm2
import multimodal
import mutated_checkpoints
import mutation_table
import pickles
import quantisers
import recipe_table
import sentencepiece_models
import static_conversions
import work


@dataclasses.dataclass
class Model:
  """How one file or directory of models/ comes about."""

  make: Callable[..., None]
  # Passed on as they are.
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  # Argument name -> name of another model, passed as its path.
  inputs: dict[str, str] = dataclasses.field(default_factory=dict)


class Add(Protocol):
  """Adds a model; options are its maker's."""

  def __call__(
      self,
      name: str,
      make: Callable[..., None],
      inputs: dict[str, str],
      /,
      **options: Any,
  ) -> None: ...


# One of each family; their other settings are compared in the reference alone.
# litert-torch 0.10.0 converts no Phi-3 with a sliding window or longrope.
FAMILIES_CONVERTED = (
    "ref_mistral",
    "ref_qwen2",
    "ref_qwen3",
    "ref_gemma",
    "ref_gemma2",
    "ref_gemma3",
    "ref_smollm3",
    "ref_phi",
)


# By export_hf, in float32 and int8; litert-torch 0.10.0 converts no StarCoder2
# with a sliding window.
FURTHER_CONVERTED = (
    "ref_granite",
    "ref_olmo2",
    "ref_ministral",
    "ref_ministral3",
    "ref_exaone4",
    "ref_hunyuan",
    "ref_seed_oss",
    "ref_starcoder2_plain",
    "ref_glm",
    "ref_glm4",
    "ref_cohere",
    "ref_cohere2",
    "ref_ernie4_5",
    "ref_helium",
    "ref_olmo",
    "ref_olmo3",
    "ref_arcee",
    "ref_apertus",
    "ref_vaultgemma",
    "ref_nanochat",
    "ref_bitnet",
    "ref_jais2",
    "ref_hyperclovax",
    "ref_exaone",
    "ref_internlm3",
    "ref_iquestcoder",
)


# The graph of a family is converted once for prefill, not once for each of two
# lengths: a third of the time. Prompts are both cut and padded to it, and windows
# reach over it. What depends on having several, the models of Llama show.
FAMILY_PREFILL = (16,)


def _add_float_and_int8(add: Add, name: str) -> None:
  """Conversions of a checkpoint without a tokenizer of its own."""
  add(
      f"{name}.tflite",
      conversions.export_family,
      {"checkpoint": name, "tokenizer": "smollm2"},
      prefill=list(FAMILY_PREFILL),
      cache=256,
  )
  add(
      f"{name}_q8.tflite",
      conversions.quantize_hf,
      {"float_file": f"{name}.tflite"},
      recipe="dynamic_wi8_afp32",
  )


def _add_further_families(add: Add) -> None:
  further = checkpoints.FURTHER_FAMILIES.items()
  for seed, (name, (kind, changes)) in enumerate(further, 200):
    options = dict(kind=kind, changes=changes, seed=seed)
    add(name, checkpoints.further_family, {}, **options)
  add("ref_openelm", checkpoints.openelm, {}, seed=250)
  sizes = dict(prefill=list(FAMILY_PREFILL), cache=256)
  # litert-torch 0.10.0 converts no Phi-3 with a sliding window or longrope by
  # export_hf.
  for name in ("ref_phi3_plain", "ref_phi3_partial"):
    add(
        f"{name}.tflite",
        conversions.export_family,
        {"checkpoint": name, "tokenizer": "smollm2"},
        **sizes,
    )
  for name in FURTHER_CONVERTED:
    _add_float_and_int8(add, name)
  for name, example in (
      ("ref_phi35", "phi3"),
      ("ref_phi4", "phi4"),
      ("ref_falcon_rw", "falcon"),
      ("ref_openelm", "openelm"),
  ):
    add(
        f"{name}.tflite",
        conversions.classic_example,
        {"checkpoint": name},
        example=example,
        **sizes,
    )


def _add_signature_kinds(add: Add) -> None:
  """One model for each kind of signature in docs/signatures.md."""
  add("small_mqa", checkpoints.small_mqa, {}, seed=31)
  add("small_sliding", checkpoints.small_sliding, {}, seed=32)
  tiny = {"checkpoint": "tiny"}
  usual = dict(prefill_lengths=[8, 64], cache_length=256)
  gpu = dict(apply_gpu_composites=True)
  for name, source, options in (
      (
          "tiny_hf_logits.tflite",
          tiny,
          dict(usual, prefill_logits=True, k_ts_idx=3, v_ts_idx=2),
      ),
      (
          "tiny_hf_gpu.tflite",
          tiny,
          dict(usual, enable_gpu_dynamic_prefill=True, **gpu),
      ),
      (
          "tiny_hf_caches.tflite",
          tiny,
          dict(prefill_lengths=[1, 16], cache_lengths=[128, 256]),
      ),
      ("tiny_hf_embedder", tiny, dict(usual, externalize_embedder=True)),
      (
          "tiny_hf_embedder_q8",
          tiny,
          dict(
              usual,
              externalize_embedder=True,
              single_token_embedder=True,
              quantization_recipe="dynamic_wi8_afp32",
          ),
      ),
      (
          "small_ring.tflite",
          {"checkpoint": "small_sliding"},
          dict(
              usual,
              sliding_window_ring_buffer_size=32,
              enable_gpu_dynamic_cache=False,
              **gpu,
          ),
      ),
  ):
    add(name, conversions.export_hf_with, source, **options)
  add(
      "tiny_batch.tflite",
      conversions.classic_with,
      tiny,
      prefill=[11, 67],
      cache=257,
      decode_batch=2,
      test_prefill=[64],
  )
  add(
      "small_lora.tflite",
      conversions.classic_with,
      {"checkpoint": "small_mqa"},
      prefill=[8, 64],
      cache=256,
      lora_ranks=[4],
  )
  for kind in ("float16", "int8"):
    add(
        f"tiny_kv_{kind}.tflite",
        conversions.cast_kv_caches,
        {"float_file": "tiny_f32.tflite"},
        kind=kind,
    )
  add(
      "tiny_q8_embedding_q4.tflite",
      conversions.quantize_hf,
      {"float_file": "tiny_export_hf.tflite"},
      recipe="dynamic_wi8_emb4_afp32",
  )
  for suffix, recipe in (
      ("", "dynamic_wi8c_hr_afp32"),
      ("_q4", "dynamic_wi4c_hr_afp32"),
  ):
    add(
        f"tiny_hf_hadamard{suffix}.tflite",
        conversions.quantize_hf,
        {"float_file": "tiny_export_hf.tflite"},
        recipe=recipe,
    )


def _add_scaled_rope(add: Add) -> None:
  """Models whose RoPE is scaled, float and int8."""
  for seed, name in enumerate(checkpoints.SCALED_ROPE, 300):
    add(name, checkpoints.scaled_rope, {}, name=name, seed=seed)
    _add_float_and_int8(add, name)


def _add_quantisers(add: Add) -> None:
  """Each algorithm of the quantiser but minimum and maximum."""
  algorithms: dict[str, dict[str, Any]] = {
      "gptq_q8": dict(algorithm="GPTQ"),
      "gptq_q4_block32": dict(algorithm="GPTQ", bits=4, block=32),
      "oscar_q8": dict(algorithm="OSCAR"),
      "oscar_q4_block32": dict(algorithm="OSCAR", bits=4, block=32),
      "mse_q8": dict(algorithm="MSE"),
      "octav_q4": dict(algorithm="OCTAV", bits=4),
      "hadamard_op": dict(algorithm="HADAMARD_ROTATION"),
  }
  for name, options in algorithms.items():
    add(
        f"tiny_{name}.tflite",
        quantisers.quantise,
        {"float_file": "tiny_f32.tflite"},
        **options,
    )
  for bits in (8, 4):
    add(
        f"tiny_qat{bits}",
        mutated_checkpoints.on_grid,
        {"checkpoint": "tiny"},
        bits=bits,
    )
    add(
        f"tiny_qat{bits}_f32.tflite",
        conversions.classic,
        {"checkpoint": f"tiny_qat{bits}"},
        prefill=[8],
        cache=128,
    )
    add(
        f"tiny_qat{bits}_recovered.tflite",
        quantisers.quantise,
        {"float_file": f"tiny_qat{bits}_f32.tflite"},
        algorithm="DEQUANTIZED_WEIGHT_RECOVERY",
        bits=bits,
    )
  add(
      "tiny_folded.tflite",
      quantisers.folded_factors,
      {"base": "tiny_f32.tflite"},
  )


def _add_static(add: Add) -> None:
  """Integer activations, KV caches, masks and logits."""
  for name, options in (
      ("tiny_static_ranges", {}),
      ("tiny_static_infinite_ranges", dict(blocked=-math.inf, tokens=64)),
  ):
    add(
        name,
        static_conversions.measure_ranges,
        {"float_file": "tiny_mask.tflite", "checkpoint": "tiny"},
        **options,
    )
  for bits in (8, 16):
    add(
        f"tiny_static_a{bits}.tflite",
        static_conversions.quantize,
        {"float_file": "tiny_mask.tflite", "measured": "tiny_static_ranges"},
        bits=bits,
    )


def _add_mutations(add: Add) -> None:
  """Conversions broken on purpose, and the checkpoints they are held against."""
  for name, (make, inputs, options) in mutation_table.CHECKPOINTS.items():
    add(name, make, inputs, **options)
  for row in mutation_table.MUTATIONS:
    if row.make is not None:
      add(row.file.split("/")[0], row.make, row.inputs, **row.options)


def _add_containers(add: Add) -> None:
  """.task files, and bundles of more than the one model."""
  task = dict(start_token="<s>", stop_tokens=["</s>"])
  roles = {
      "system": ("### System:\n", "\n"),
      "user": ("### User:\n", "\n"),
      "model": ("### Assistant:\n", "\n"),
  }
  prompt = ("", "### User:\n", "\n### Assistant:\n")
  chatml = {
      "system": ("<|im_start|>system\n", "<|im_end|>\n"),
      "user": ("<|im_start|>user\n", "<|im_end|>\n"),
      "model": ("<|im_start|>assistant\n", "<|im_end|>\n"),
  }
  tiny = {"model": "tiny_f32.tflite", "tokenizer": "llama2_model_legacy"}
  for suffix, inputs, options in (
      ("", tiny, dict(roles=roles)),
      ("_ids", tiny, dict(start_token=1, stop_tokens=[2], prompt=prompt)),
      ("_llm_metadata", tiny, dict(roles=roles, llm_metadata=True)),
      ("_wrong_stop", tiny, dict(stop_tokens=["<unk>"], roles=roles)),
      (
          "_added_tokens",
          tiny,
          dict(prompt=("", "<|user|>\n", "\n<|assistant|>\n")),
      ),
      (
          "_bytes",
          dict(tiny, tokenizer="smollm2_sentencepiece_bytes"),
          dict(
              start_token="<|im_start|>",
              stop_tokens=["<|im_end|>"],
              roles=chatml,
              bytes_to_unicode=True,
          ),
      ),
      (
          "_wrong_tokenizer",
          dict(tiny, tokenizer="llama2_model_squeezed"),
          dict(roles=roles),
      ),
      (
          "_embedder",
          dict(tiny, model="tiny_hf_embedder"),
          dict(roles=roles),
      ),
  ):
    add(f"tiny{suffix}.task", containers.task, inputs, **(task | options))
  for suffix, operator in (("npu", "DISPATCH_OP"), ("custom_op", "my_op")):
    add(
        f"tiny_{suffix}.tflite",
        containers.custom_operator,
        {"float_file": "tiny_single.tflite"},
        operator=operator,
    )
  add(
      "tiny_gpu.litertlm",
      containers.litertlm,
      {"checkpoint": "tiny", "models": "tiny_f32.tflite"},
      backend="gpu",
  )
  for suffix, normalize in (("", "decode"), ("_bytes", "none")):
    add(
        f"smollm2_sentencepiece{suffix}",
        containers.sentencepiece_of,
        {"checkpoint": "smollm2"},
        normalize=normalize,
    )
  add(
      "tiny_sentencepiece.litertlm",
      containers.litertlm,
      {
          "checkpoint": "tiny",
          "models": "tiny_f32.tflite",
          "sentencepiece": "smollm2_sentencepiece",
      },
  )
  add(
      "tiny_hf_embedder.litertlm",
      containers.export_hf_bundle,
      {"checkpoint": "tiny"},
      prefill_lengths=[8, 64],
      cache_length=256,
      externalize_embedder=True,
  )
  add(
      "tiny_two_embedders",
      containers.split_embedder,
      {"models": "tiny_hf_embedder"},
  )
  add(
      "tiny_two_embedders.litertlm",
      containers.litertlm,
      {"checkpoint": "tiny", "models": "tiny_two_embedders"},
  )


def _add_gemma4(add: Add) -> None:
  """Gemma 4: embedders of their own, by the option its authors take."""
  for seed, (name, (text, inside)) in enumerate(
      checkpoints.GEMMA4.items(), 400
  ):
    add(
        name,
        checkpoints.gemma4,
        {},
        text=text,
        multimodal=inside,
        seed=seed,
    )
  options: dict[str, Any]
  for name, checkpoint, options in (
      ("gemma4_hf", "text_gemma4", dict(externalize_embedder=True)),
      ("gemma4_e2b_hf", "text_gemma4_e2b", dict(externalize_embedder=True)),
      (
          "ref_gemma4_text.tflite",
          "text_gemma4_text",
          dict(moe_exports_implementation="eager"),
      ),
  ):
    add(
        name,
        conversions.export_hf_with,
        {"checkpoint": checkpoint},
        prefill_lengths=list(FAMILY_PREFILL),
        cache_length=256,
        **options,
    )
  add(
      "gemma4_e2b_capped",
      gemma4.soft_cap_mended,
      {"base": "gemma4_e2b_hf"},
      cap=4.0,
  )
  for name in ("gemma4_hf", "gemma4_e2b_capped"):
    add(
        f"{name}_q8",
        gemma4.quantised,
        {"models": name},
        recipe="dynamic_wi8_afp32",
    )
  add(
      "gemma4_e2b_hf.litertlm",
      containers.export_hf_bundle,
      {"checkpoint": "text_gemma4_e2b"},
      prefill_lengths=list(FAMILY_PREFILL),
      cache_length=256,
      externalize_embedder=True,
  )
  for suffix in ("", "_hr", "_b32"):
    add(
        f"gemma4_e2b_mixed48{suffix}",
        gemma4.mixed,
        {"models": "gemma4_e2b_capped"},
        recipe=f"gemma4_mixed48{suffix}",
    )


def _add_multimodal(add: Add) -> None:
  """Models of images and text, of which the text model is converted."""
  for seed, (name, (kind, text, vision, settings)) in enumerate(
      multimodal.MODELS.items(), 450
  ):
    add(
        name,
        multimodal.checkpoint,
        {},
        kind=kind,
        text=text,
        vision=vision,
        settings=settings,
        seed=seed,
    )
  # Whose norms and biases the converter leaves out.
  add(
      "ref_starcoder2_neutral.tflite",
      conversions.export_hf_with,
      {"checkpoint": "text_starcoder2_neutral"},
      prefill_lengths=list(FAMILY_PREFILL),
      cache_length=256,
  )
  for name in multimodal.CONVERTED:
    stem = name.removeprefix("ref_")
    add(
        f"{stem}_hf",
        conversions.export_hf_with,
        {"checkpoint": f"text_{stem}"},
        task="image_text_to_text",
        export_vision_encoder=False,
        externalize_embedder=True,
        prefill_lengths=list(FAMILY_PREFILL),
        cache_length=256,
    )
    add(
        f"{stem}_hf_q8",
        gemma4.quantised,
        {"models": f"{stem}_hf"},
        recipe="dynamic_wi8_afp32",
    )


def _add_moe(add: Add) -> None:
  """Mixtures of experts, each expert a branch of the graph."""
  for seed, (name, (kind, changes)) in enumerate(checkpoints.MOE.items(), 450):
    add(name, checkpoints.moe, {}, kind=kind, changes=changes, seed=seed)
    # ai-edge-litert 2.3.0 does not run what becomes of a choice that is not
    # sorted: STABLEHLO_SORT.
    if name == "ref_glm4_moe":
      continue
    add(
        f"{name}.tflite",
        conversions.export_hf_with,
        {"checkpoint": name.replace("ref_", "text_")},
        prefill_lengths=list(FAMILY_PREFILL),
        cache_length=256,
        moe_exports_implementation="litert_moe_sequential",
    )
    add(
        f"{name}_q8.tflite",
        conversions.quantize_hf,
        {"float_file": f"{name}.tflite"},
        recipe="dynamic_wi8_afp32",
    )


def _add_gemma3n(add: Add) -> None:
  """Gemma 3n: as published ones are converted, and its text model by itself."""
  for seed, (name, (text, inside)) in enumerate(
      gemma3n.CHECKPOINTS.items(), 430
  ):
    add(
        name,
        gemma3n.checkpoint,
        {},
        text=text,
        multimodal=inside,
        seed=seed,
    )
  for name, checkpoint, options in (
      ("gemma3n_hf", "text_gemma3n", dict(externalize_embedder=True)),
      ("ref_gemma3n_text.tflite", "text_gemma3n_text", {}),
  ):
    add(
        name,
        gemma3n.export,
        {"checkpoint": checkpoint},
        prefill_lengths=list(FAMILY_PREFILL),
        cache_length=256,
        **options,
    )
  add(
      "gemma3n_capped",
      gemma4.soft_cap_mended,
      {"base": "gemma3n_hf"},
      cap=4.0,
  )
  add(
      "gemma3n_capped_q8",
      gemma4.quantised,
      {"models": "gemma3n_capped"},
      recipe="dynamic_wi8_afp32",
  )
  add(
      "ref_gemma3n_text_q8.tflite",
      conversions.quantize_hf,
      {"float_file": "ref_gemma3n_text.tflite"},
      recipe="dynamic_wi8_afp32",
  )


def _add_lfm2(add: Add) -> None:
  """LFM2, whose convolutions keep a state beside keys and values."""
  for seed, (name, settings) in enumerate(lfm2.CHECKPOINTS.items(), 480):
    add(name, lfm2.checkpoint, {}, settings=settings, seed=seed)
    text = name.replace("ref_", "text_")
    add(
        text,
        lfm2.with_tokenizer,
        {"checkpoint": name, "tokenizer": "smollm2"},
        pad_token="<gh_stars>",
    )
    add(
        f"{name}.tflite",
        lfm2.export,
        {"checkpoint": text},
        packages=lfm2.PACKAGES,
        prefill_lengths=[8, 64],
        cache_length=256,
    )
    add(
        f"{name}_q8.tflite",
        conversions.quantize_hf,
        {"float_file": f"{name}.tflite"},
        recipe="dynamic_wi8_afp32",
    )
  for name, options in (
      ("lfm2_hf", dict(externalize_embedder=True)),
      ("lfm2_hf.litertlm", dict(bundle_litert_lm=True)),
      (
          "lfm2_hf_composites.tflite",
          dict(
              use_short_conv_composite=True, fuse_qkv=True, fuse_gate_up=True
          ),
      ),
  ):
    add(
        name,
        lfm2.export,
        {"checkpoint": "text_lfm2"},
        packages=lfm2.PACKAGES,
        prefill_lengths=[8, 64],
        cache_length=256,
        **options,
    )


def _add_ill_conditioned(add: Add) -> None:
  """What rounding alone does to it is not small."""
  add(
      "tiny_cancelling",
      mutated_checkpoints.cancelling,
      {"checkpoint": "tiny"},
      ratio=4e5,
  )
  add(
      "tiny_cancelling.tflite",
      conversions.classic,
      {"checkpoint": "tiny_cancelling"},
      prefill=[8, 64],
      cache=256,
  )
  add(
      "tiny_cancelling_q8.tflite",
      conversions.quantize,
      {
          "checkpoint": "tiny_cancelling",
          "float_file": "tiny_cancelling.tflite",
      },
      recipe="dynamic_int8",
  )


def _add_small_activations(add: Add) -> None:
  """Where GELU cancels, rounding is a large part of it."""
  add(
      "starcoder2_small_activations.tflite",
      conversions.export_hf_with,
      {"checkpoint": "text_starcoder2_small_activations"},
      prefill_lengths=[8, 64],
      cache_length=256,
  )


def _models() -> dict[str, Model]:
  models = {"smollm2": Model(checkpoints.smollm2)}

  def add(
      name: str,
      make: Callable[..., None],
      inputs: dict[str, str],
      /,
      **options: Any,
  ) -> None:
    models[name] = Model(make, options, inputs)

  smollm2 = {"checkpoint": "smollm2"}
  add("tiny", checkpoints.tiny, {"smollm2_dir": "smollm2"}, seed=1)
  add("tiny_other", checkpoints.tiny, {"smollm2_dir": "smollm2"}, seed=2)
  add(
      "smollm2_f32.tflite",
      conversions.classic,
      smollm2,
      prefill=[8, 64, 256],
      cache=1280,
      example="smollm2",
  )
  for suffix, recipe in (
      ("q8", "dynamic_int8"),
      ("fp16", "fp16"),
      ("q8_wo", "weight_only_int8"),
      ("q4_block32", "dynamic_int4_block32"),
  ):
    add(
        f"smollm2_{suffix}.tflite",
        conversions.quantize,
        {"checkpoint": "smollm2", "float_file": "smollm2_f32.tflite"},
        recipe=recipe,
    )

  variants: dict[str, dict[str, Any]] = {
      "f32": {},
      "single": dict(prefill=[64], single=True),
      "prefill_logits": dict(prefill_logits=True),
      "mask": dict(mask=True),
      "transposed": dict(transposed=True),
      "mask_transposed": dict(mask=True, transposed=True),
      "wrong_rope": dict(fault="rope"),
      "wrong_eps": dict(fault="eps"),
      "wrong_layers": dict(fault="layers"),
      "wrong_weights": {},
  }
  for suffix, options in variants.items():
    source = "tiny_other" if suffix == "wrong_weights" else "tiny"
    options = dict(prefill=[8, 64], cache=256) | options
    add(
        f"tiny_{suffix}.tflite",
        conversions.classic,
        {"checkpoint": source},
        **options,
    )
  add(
      "tiny_q8.tflite",
      conversions.quantize,
      {"checkpoint": "tiny", "float_file": "tiny_f32.tflite"},
      recipe="dynamic_int8",
  )
  add(
      "tiny_q4_block32.tflite",
      conversions.quantize,
      {"checkpoint": "tiny", "float_file": "tiny_f32.tflite"},
      recipe="dynamic_int4_block32",
  )
  add(
      "tiny_hf_q8.tflite",
      conversions.quantize_hf,
      {"float_file": "tiny_export_hf.tflite"},
      recipe="dynamic_wi8_afp32",
  )
  add(
      "tiny_export_hf.tflite",
      conversions.export_hf,
      {"checkpoint": "tiny"},
      prefill=[8, 64],
      cache=256,
  )
  add("linear.tflite", conversions.linear, {})
  _add_signature_kinds(add)
  add(
      "tiny_export_hf.litertlm",
      conversions.export_hf,
      {"checkpoint": "tiny"},
      prefill=[8, 64],
      cache=256,
      bundle=True,
  )
  # Stops at the EOS of both configurations and at the end of turns, as bundles
  # of Qwen do.
  add(
      "tiny_base_eos.litertlm",
      conversions.export_hf,
      {"checkpoint": "tiny_base_eos"},
      prefill=[8, 64],
      cache=256,
      bundle=True,
  )
  # SmolLM2's template writes BOS, so that a start token would come on top.
  bundles: dict[str, dict[str, Any]] = {
      "bundle": {},
      "bundle_stop_text": dict(stop_tokens=["<|im_end|>", "<|im_end|>\n"]),
      "bundle_wrong_stop": dict(stop_tokens=[0]),
      "bundle_wrong_start": dict(start_token="<|im_start|>"),
      "bundle_wrong_template": dict(
          template=(
              "{% for m in messages %}<|im_start|>{{ m.role }}\n"
              "{{ m.content }}<|im_end|>\n{% endfor %}"
              "<|im_start|>assistant\n"
          )
      ),
      "bundle_affixes": dict(
          affixes={
              "system": ("<|im_start|>system\n", "<|im_end|>\n"),
              "user": ("<|im_start|>user\n", "<|im_end|>\n"),
              "model": ("<|im_start|>assistant\n", "<|im_end|>\n"),
          }
      ),
  }
  for suffix, options in bundles.items():
    add(
        f"tiny_{suffix}.litertlm",
        conversions.bundle,
        {"checkpoint": "tiny", "tflite": "tiny_f32.tflite"},
        **(dict(start_token=None, stop_tokens=[2]) | options),
    )
  # Renders SmolLM2's prompts, from content that is a list of parts.
  add(
      "tiny_bundle_parts.litertlm",
      conversions.bundle,
      {"checkpoint": "tiny", "tflite": "tiny_f32.tflite"},
      start_token=None,
      stop_tokens=[2],
      template=(
          "{% for m in messages %}"
          "{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
          "You are a helpful AI assistant named SmolLM, trained by Hugging"
          " Face<|im_end|>\n{% endif %}"
          "<|im_start|>{{ m.role }}\n"
          "{% for part in m.content %}{{ part.text }}{% endfor %}<|im_end|>\n"
          "{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
      ),
  )
  add(
      "tiny_bundle_wrong_tokenizer.litertlm",
      conversions.bundle,
      {
          "checkpoint": "tiny",
          "tflite": "tiny_f32.tflite",
          "tokenizer": "llama2_tokenizer",
      },
      start_token=None,
      stop_tokens=[2],
  )
  _add_containers(add)
  for seed, name in enumerate(checkpoints.REFERENCES, 10):
    add(name, checkpoints.reference, {}, name=name, seed=seed)
  for seed, name in enumerate(checkpoints.FAMILIES, 100):
    add(name, checkpoints.family, {}, name=name, seed=seed)
  for name in FAMILIES_CONVERTED:
    add(
        f"{name}.tflite",
        conversions.export_family,
        {"checkpoint": name, "tokenizer": "smollm2"},
        prefill=list(FAMILY_PREFILL),
        cache=256,
    )
  _add_further_families(add)
  add("llama2_tokenizer", checkpoints.llama2_tokenizer, {})
  add("ref_pickles", pickles.saved, {"checkpoint": "ref_mha_untied"})
  add("ref_f64", pickles.float64, {"checkpoint": "ref_gqa_tied"})
  add("pickle_layouts", pickles.layouts, {})
  for name, legacy, squeeze in (
      ("legacy", True, False),
      ("plain", False, False),
      ("squeezed", False, True),
  ):
    add(
        f"llama2_model_{name}",
        sentencepiece_models.llama2,
        {},
        legacy=legacy,
        squeeze=squeeze,
    )
  _add_quantisers(add)
  _add_scaled_rope(add)
  _add_static(add)
  _add_mutations(add)
  _add_gemma4(add)
  _add_multimodal(add)
  _add_gemma3n(add)
  _add_moe(add)
  _add_lfm2(add)
  _add_ill_conditioned(add)
  _add_small_activations(add)
  return models


def _recipes() -> dict[str, Model]:
  """What measure_recipes.py measures and no test needs."""
  models = {
      name: Model(make, options, inputs)
      for name, (make, inputs, options) in recipe_table.CHECKPOINTS.items()
  }
  for row in recipe_table.ROWS:
    if row.make is not None:
      models[row.file] = Model(row.make, row.options, row.inputs)
  return models


_TESTED = _models()
MODELS = _TESTED | _recipes()
GROUPS = {
    "demo": ["smollm2", "smollm2_q8.tflite"],
    "test": list(_TESTED),
    "recipes": recipe_table.group(("smollm2", "tiny")),
    # Wants a package that setup.sh does not install.
    "recipes_gemma": recipe_table.group(("gemma3_270m",)),
    "mutations": sorted(mutation_table.needed()),
}
PACKAGES = (
    "ai-edge-quantizer",
    "litert-converter",
    "litert-torch",
    "torch",
    "transformers",
)


# What converters load; the makers that need none of it lose nothing.
_PRELOADED = ("converters",)


def resolve(names: list[str]) -> list[str]:
  """The models named and all they are made from, each after its inputs."""
  order: list[str] = []

  def visit(name: str) -> None:
    for needed in MODELS[name].inputs.values():
      visit(needed)
    if name not in order:
      order.append(name)

  for name in names:
    for member in GROUPS.get(name, [name]):
      if member not in MODELS and f"{member}.tflite" in MODELS:
        member += ".tflite"
      if member not in MODELS:
        sys.exit(f"make_models.py: no model named '{member}'; see --list")
      visit(member)
  return order


def keys(order: list[str]) -> dict[str, str]:
  """Model -> what it is made by; another key means another model."""
  versions = work.versions(PACKAGES)
  found: dict[str, str] = {}
  for name in order:
    model = MODELS[name]
    found[name] = work.digest(
        versions,
        work.source_of(model.make),
        model.options,
        {k: found[v] for k, v in model.inputs.items()},
    )
  return found


def _make_one(target: pathlib.Path, name: str, out: pathlib.Path) -> None:
  model = MODELS[name]
  if not name.endswith((".tflite", ".litertlm", ".task")):
    target.mkdir()
  inputs = {k: out / v for k, v in model.inputs.items()}
  model.make(target, **inputs, **model.options)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("names", nargs="*", metavar="NAME")
  parser.add_argument(
      "--out", type=pathlib.Path, default=work.cache_dir() / "models"
  )
  parser.add_argument("--list", action="store_true", help="list the names")
  parser.add_argument("--jobs", type=int, default=work.default_jobs())
  args = parser.parse_args()
  if args.list or not args.names:
    for name, members in GROUPS.items():
      print(f"{name}: {' '.join(members)}")
    return
  order = resolve(args.names)
  tasks = [
      work.Task(
          name, list(MODELS[name].inputs.values()), _make_one, (name, args.out)
      )
      for name in order
  ]
  work.run("models", args.out, tasks, keys(order), args.jobs, _PRELOADED)


if __name__ == "__main__":
  main()
