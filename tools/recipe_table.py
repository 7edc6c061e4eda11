# SPDX-License-Identifier: Apache-2.0
"""Every recipe that litert-torch 0.10.0 offers, on the models measured.

make_models.py makes the files (groups `recipes` and `recipes_gemma`, which no
test needs) and measure_recipes.py measures them.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
from typing import Any

import conversions
import recipe_checkpoints


@dataclasses.dataclass
class Row:
  """One file to measure."""

  model: str
  converter: str
  # As the converter's option spells it.
  recipe: str
  file: str
  checkpoint: str
  # None where make_models.py makes the file for the tests already.
  make: Callable[..., None] | None = None
  inputs: dict[str, str] = dataclasses.field(default_factory=dict)
  options: dict[str, Any] = dataclasses.field(default_factory=dict)


# litert_torch.generative.utilities.converter.QuantizationName.
CLASSIC = {
    "none": "f32",
    "fp16": "fp16",
    "weight_only_int8": "q8_wo",
    "dynamic_int8": "q8",
    "dynamic_int4_block32": "q4_block32",
    "dynamic_int4_block128": "q4_block128",
}

# What --quantization_recipe of export_hf takes: the functions and aliases of
# ai_edge_quantizer.recipe, and the recipes of export_lib's own. A dictionary of
# recipes by part (gemma4_mixed48, as are its three variants) and static ones,
# which want calibration, are tried too: what becomes of them is part of the
# answer. dynamic_wi8c_afp32 and dynamic_wi4c_afp32 are dynamic_wi8_afp32 and
# dynamic_wi4_afp32 by other names.
EXPORT_HF = (
    "none",
    "weight_only_wi8_afp32",
    "dynamic_wi8_afp32",
    "dynamic_legacy_wi8_afp32",
    "dynamic_wi8b32_afp32",
    "dynamic_wi8b64_afp32",
    "dynamic_wi8c_hr_afp32",
    "dynamic_wi8_emb4_afp32",
    "weight_only_wi4_afp32",
    "dynamic_wi4_afp32",
    "dynamic_wi4b32_afp32",
    "dynamic_wi4b64_afp32",
    "dynamic_wi4c_hr_afp32",
    "dynamic_wi2c_afp32",
    "dynamic_wi2b32_afp32",
    "dynamic_wi2b64_afp32",
    "dynamic_wi2c_hr_afp32",
    "static_wi8_ai8",
    "static_wi8_ai16",
    "gemma4_mixed48",
)

# What the converters refuse for SmolLM2; make_models.py stops at such a file.
REFUSED = (
    "dynamic_int4_block128",
    "static_wi8_ai8",
    "static_wi8_ai16",
    "gemma4_mixed48",
)

# A second real model need not go through those that the first shows to be the
# same or not to be had.
EXPORT_HF_SECOND = (
    "none",
    "weight_only_wi8_afp32",
    "dynamic_wi8_afp32",
    "dynamic_wi8_emb4_afp32",
    "dynamic_wi4b32_afp32",
    "dynamic_wi4_afp32",
)

SIZES = dict(prefill=[8, 64, 256], cache=1280)


def _export_hf_rows(model: str, checkpoint: str, recipes: Iterable[str]) -> list[Row]:
  rows = []
  for recipe in recipes:
    row = Row(model, "export_hf", recipe, f"{checkpoint}_hf.tflite", checkpoint)
    if recipe == "none":
      row.make = conversions.export_hf
      row.inputs, row.options = {"checkpoint": checkpoint}, SIZES
    else:
      row.make = conversions.quantize_hf
      row.inputs = {"float_file": row.file}
      row.options = dict(recipe=recipe)
      row.file = f"{checkpoint}_hf_{recipe}.tflite"
    rows.append(row)
  return rows


def _classic_rows() -> list[Row]:
  rows = []
  for recipe, suffix in CLASSIC.items():
    file = f"smollm2_{suffix}.tflite"
    row = Row("SmolLM2-135M", "classic", recipe, file, "smollm2")
    if recipe == "dynamic_int4_block128":
      row.make = conversions.quantize
      row.inputs = {"checkpoint": "smollm2", "float_file": "smollm2_f32.tflite"}
      row.options = dict(recipe=recipe)
    rows.append(row)
  return rows


# name -> (maker, inputs, options) of the checkpoints that no test needs.
CHECKPOINTS: dict[
    str, tuple[Callable[..., None], dict[str, str], dict[str, Any]]
] = {
    "gemma3_270m": (recipe_checkpoints.gemma3_270m, {}, {}),
}

# Random weights, for how far figures depend on the model; the tests make them.
_TINY = (
    ("classic", "none", "tiny_f32.tflite"),
    ("classic", "dynamic_int8", "tiny_q8.tflite"),
    ("export_hf", "none", "tiny_export_hf.tflite"),
    ("export_hf", "dynamic_wi8_emb4_afp32", "tiny_q8_embedding_q4.tflite"),
)

ROWS = [
    *_classic_rows(),
    *_export_hf_rows("SmolLM2-135M", "smollm2", EXPORT_HF),
    *_export_hf_rows("Gemma-3-270M", "gemma3_270m", EXPORT_HF_SECOND),
    *(Row("tiny (random weights)", *rest, "tiny") for rest in _TINY),
]


def group(checkpoints: tuple[str, ...]) -> list[str]:
  """The files of some checkpoints that can be made."""
  return sorted({
      row.file
      for row in ROWS
      if row.checkpoint in checkpoints and row.recipe not in REFUSED
  })
