# SPDX-License-Identifier: Apache-2.0
"""Conversions whose embedders are files of their own, changed as a whole."""

import copy
import pathlib
import shutil
from typing import Any

import conversions
import mutations
import numpy as np

_MODEL = "model.tflite"


def quantised(out: pathlib.Path, models: pathlib.Path, recipe: str) -> None:
  """Each file by export_hf's own last step."""
  for path in sorted(models.glob("*.tflite")):
    conversions.quantize_hf(out / path.name, path, recipe)


def mixed(out: pathlib.Path, models: pathlib.Path, recipe: str) -> None:
  """By a recipe that has one of its own for each section of a bundle."""
  from ai_edge_quantizer import quantizer
  from ai_edge_quantizer import recipe as recipes

  sections = {
      "model": "tf_lite_prefill_decode",
      "embedder": "tf_lite_embedder",
      "per_layer_embedder": "tf_lite_per_layer_embedder",
  }
  by_section = vars(recipes)[recipe]()
  for path in sorted(models.glob("*.tflite")):
    made = quantizer.Quantizer(str(path))
    made.load_quantization_recipe(by_section[sections[path.stem]])
    made.quantize().export_model(str(out / path.name))


def changed(
    out: pathlib.Path, base: pathlib.Path, change: str, **options: Any
) -> None:
  """The model broken by one of mutations.py, its embedders as they are."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  getattr(mutations, change)(out / _MODEL, base / _MODEL, **options)


def embedder_changed(
    out: pathlib.Path, base: pathlib.Path, file: str, old: float, new: float
) -> None:
  """A factor of one of the embedders replaced."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / file)
  count = 0
  for graph in conversion.model.subgraphs:
    for op in conversion.operators(graph, "MUL"):
      values = conversion.constant(graph, op.inputs[1])
      if values is not None and values.size == 1 and values == np.float32(old):
        values[...] = new
        count += 1
  assert count, f"{file} has no factor {old}"
  conversion.save(out / file)


def layer_scalar(
    out: pathlib.Path, base: pathlib.Path, layer: int, value: float
) -> None:
  """What leaves a layer multiplied by another number than its scalar."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  for graph in conversion.signatures():
    scalars = [
        op
        for op in conversion.operators(graph, "MUL")
        if _is_scalar(conversion, graph, op)
    ]
    op = scalars[layer]
    other = conversion.new_constant(
        graph, np.array(value, np.float32), op.inputs[1]
    )
    op.inputs = [op.inputs[0], other]
  conversion.save(out / _MODEL)


def _is_scalar(conversion: mutations.Conversion, graph: Any, op: Any) -> bool:
  """Whether a residual stream, a sum, is multiplied by one number."""
  values = conversion.constant(graph, op.inputs[1])
  if values is None or values.size != 1:
    return False
  before = [o for o in graph.operators if op.inputs[0] in list(o.outputs)]
  hidden = graph.tensors[graph.inputs[0]].shape[-1]
  wide = graph.tensors[op.inputs[0]].shape[-1] == hidden
  return wide and bool(before) and conversion.kind(before[0]) == "ADD"


def other_keys(out: pathlib.Path, base: pathlib.Path) -> None:
  """The last layer takes the keys of layer 1, not of layer 3."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  graph = conversion.decode
  caches = {
      item.name.decode(): int(item.tensorIndex)
      for item in next(
          s for s in conversion.model.signatureDefs if s.signatureKey == b"decode"
      ).outputs
  }
  for part in "kv":
    right, wrong = caches[f"kv_cache_{part}_3"], caches[f"kv_cache_{part}_1"]
    # Both readers take it turned, by one operator.
    (turn,) = [op for op in graph.operators if right in list(op.inputs)]
    turned = int(turn.outputs[0])
    last = [op for op in graph.operators if turned in list(op.inputs)][-1]
    other = copy.copy(turn)
    other.inputs = [wrong, turn.inputs[1]]
    other.outputs = [conversion.new_tensor(
        graph, [int(n) for n in graph.tensors[turned].shape], turned
    )]
    graph.operators.insert(graph.operators.index(last), other)
    last.inputs = [
        other.outputs[0] if i == turned else int(i) for i in last.inputs
    ]
  conversion.repack = True
  conversion.save(out / _MODEL)


def soft_cap_mended(
    out: pathlib.Path, base: pathlib.Path, cap: float
) -> None:
  """The cap on logits that export_hf leaves out."""
  shutil.copytree(base, out, dirs_exist_ok=True)
  conversion = mutations.Conversion(base / _MODEL)
  graph = conversion.decode
  signature = next(
      s for s in conversion.model.signatureDefs if s.signatureKey == b"decode"
  )
  mapped = next(o for o in signature.outputs if o.name == b"logits")
  logits = int(mapped.tensorIndex)
  shape = [int(size) for size in graph.tensors[logits].shape]
  like = next(op for op in conversion.operators(graph, "MUL"))
  scalar = int(like.inputs[1])

  def add(kind: str, inputs: list[int]) -> int:
    made = conversion.new_tensor(graph, shape, logits)
    # The quantiser wants names that differ.
    graph.tensors[made].name += str(made).encode()
    graph.operators.append(_operator(conversion, kind, inputs, made))
    return made

  def constant(value: float) -> int:
    made = conversion.new_constant(graph, np.array(value, np.float32), scalar)
    graph.tensors[made].name += str(made).encode()
    return made

  small = add("MUL", [logits, constant(1 / cap)])
  bent = add("TANH", [small])
  last = add("MUL", [bent, constant(cap)])
  mapped.tensorIndex = last
  graph.outputs = [last if i == logits else int(i) for i in graph.outputs]
  conversion.save(out / _MODEL)


def _operator(
    conversion: mutations.Conversion, kind: str, inputs: list[int], output: int
) -> Any:
  schema = conversion.schema
  builtin = getattr(schema.BuiltinOperator, kind)
  code = schema.OperatorCodeT()
  code.builtinCode = code.deprecatedBuiltinCode = builtin
  code.version = 1
  conversion.model.operatorCodes.append(code)
  made = schema.OperatorT()
  made.opcodeIndex = len(conversion.model.operatorCodes) - 1
  made.inputs, made.outputs = inputs, [output]
  if kind == "MUL":
    made.builtinOptionsType = schema.BuiltinOptions.MulOptions
    made.builtinOptions = schema.MulOptionsT()
  return made
