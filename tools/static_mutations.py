# SPDX-License-Identifier: Apache-2.0
"""Static conversions broken on purpose: ranges, steps and constants."""

import pathlib

import numpy as np

import mutations


def _product(conversion: mutations.Conversion, graph, role: str):
  """The product with that weight; None in a graph without it."""
  weight = conversion.linear_tensors(graph).get(role)
  return next(
      (
          op
          for op in conversion.operators(graph, "FULLY_CONNECTED")
          if int(op.inputs[1]) == weight
      ),
      None,
  )


def output_scale(
    out: pathlib.Path, base: pathlib.Path, role: str, factor: float
) -> None:
  """What a product gives has another scale, and so another range."""
  conversion = mutations.Conversion(base)
  for graph in conversion.signatures():
    product = _product(conversion, graph, role)
    if product is None:
      continue
    tensor = graph.tensors[int(product.outputs[0])]
    tensor.quantization.scale *= np.float32(factor)
  conversion.save(out)


def input_scale(
    out: pathlib.Path,
    base: pathlib.Path,
    role: str,
    factor: float = 1.0,
    shift: int = 0,
) -> None:
  """What a product reads has not the scale (the zero point) that it had before
  it was reshaped."""
  conversion = mutations.Conversion(base)
  changed = 0
  for graph in conversion.signatures():
    product = _product(conversion, graph, role)
    if product is None:
      continue
    reshape = conversion.producer(graph, int(product.inputs[0]))
    assert conversion.kind(reshape) == "RESHAPE"
    quantization = graph.tensors[int(reshape.outputs[0])].quantization
    quantization.scale *= np.float32(factor)
    quantization.zeroPoint += shift
    changed += 1
  assert changed
  conversion.save(out)


def norm_eps(out: pathlib.Path, base: pathlib.Path, factor: float) -> None:
  """Another epsilon in all RMS norms: the attribute, and the scale of the
  integers in the decomposition."""
  conversion = mutations.Conversion(base)
  done = set()
  for graph in conversion.signatures():
    for op in conversion.composites(graph, "odml.rms_norm"):
      attributes = op.builtinOptions2.compositeAttributes
      places = [
          place
          for place in range(len(attributes) - 3)
          if np.isclose(
              attributes[place : place + 4].copy().view(np.float32)[0], 1e-5
          )
      ]
      for place in places:
        attributes[place : place + 4] = np.frombuffer(
            np.float32(1e-5 * factor).tobytes(), np.uint8
        )
      index = op.builtinOptions2.decompositionSubgraphIndex
      if index in done:
        continue
      done.add(index)
      body = conversion.model.subgraphs[index]
      (add,) = conversion.operators(body, "ADD")
      epsilon = body.tensors[int(add.inputs[1])]
      epsilon.quantization.scale *= np.float32(factor)
  conversion.save(out)
