# SPDX-License-Identifier: Apache-2.0
"""Conversions of mixtures of experts broken on purpose, one fault each."""

from collections.abc import Iterator
import pathlib
from typing import Any

import mutations
import numpy as np

_Conversion = mutations.Conversion


def _choices(conversion: _Conversion) -> Iterator[tuple[Any, Any]]:
  """Graph and TOPK_V2 of each layer with experts."""
  for graph in conversion.signatures():
    for op in conversion.operators(graph, "TOPK_V2"):
      yield graph, op


def _readers(graph: Any, tensor: int) -> list[Any]:
  return [op for op in graph.operators if tensor in list(op.inputs)]


def _read_instead(graph: Any, old: int, new: int) -> None:
  for op in _readers(graph, old):
    op.inputs = [new if int(i) == old else int(i) for i in op.inputs]


def _remove(conversion: _Conversion, graph: Any, operators: list[Any]) -> None:
  graph.operators = [
      op for op in graph.operators if all(op is not old for old in operators)
  ]
  conversion.repack = True


def experts_swapped(
    out: pathlib.Path, base: pathlib.Path, a: int, b: int
) -> None:
  """Two experts of the first layer that has some in each other's place."""
  conversion = _Conversion(base)
  for graph in conversion.signatures():
    choice = conversion.operators(graph, "TOPK_V2")[0]
    numbers = [
        op
        for op in _readers(graph, int(choice.outputs[1]))
        if conversion.kind(op) == "EQUAL"
    ]
    first, second = (
        next(
            op
            for op in numbers
            if conversion.constant(graph, int(op.inputs[1])) == number
        )
        for number in (a, b)
    )
    places = int(first.inputs[1]), int(second.inputs[1])
    conversion.set_input(first, 1, places[1])
    conversion.set_input(second, 1, places[0])
  conversion.save(out)


def router_rows_swapped(
    out: pathlib.Path, base: pathlib.Path, a: int, b: int
) -> None:
  """Two rows of the first router in each other's place, in float32."""
  conversion = _Conversion(base)
  routers = []
  for graph in conversion.signatures():
    choice = conversion.operators(graph, "TOPK_V2")[0]
    scores = conversion.producer(graph, choice.inputs[0])
    router = conversion.producer(graph, scores.inputs[0])
    routers.append(conversion.constant(graph, int(router.inputs[1])))
  for weight in conversion.once(routers):
    weight[[a, b]] = weight[[b, a]]
  conversion.save(out)


def not_normalised(out: pathlib.Path, base: pathlib.Path) -> None:
  """Weights of the taken experts are not divided by their sum."""
  conversion = _Conversion(base)
  for graph, choice in list(_choices(conversion)):
    weights = int(choice.outputs[0])
    (divide,) = [
        op for op in _readers(graph, weights) if conversion.kind(op) == "DIV"
    ]
    total = conversion.producer(graph, divide.inputs[1])
    _read_instead(graph, int(divide.outputs[0]), weights)
    _remove(conversion, graph, [divide, total])
  conversion.save(out)


def taken(out: pathlib.Path, base: pathlib.Path, count: int) -> None:
  """Each row takes another number of experts."""
  conversion = _Conversion(base)
  for graph, choice in list(_choices(conversion)):
    number = conversion.constant(graph, int(choice.inputs[1]))
    assert number is not None
    old = int(number)
    conversion.set_input(
        choice,
        1,
        conversion.new_constant(
            graph, np.array(count, np.int32), int(choice.inputs[1])
        ),
    )
    open_tensors = [int(tensor) for tensor in choice.outputs]
    while open_tensors:
      tensor = open_tensors.pop()
      shape = [int(size) for size in graph.tensors[tensor].shape]
      if shape[-1] != old:
        continue
      graph.tensors[tensor].shape = [*shape[:-1], count]
      for op in _readers(graph, tensor):
        open_tensors += [int(output) for output in op.outputs]
  conversion.save(out)


def shared_scale_lost(out: pathlib.Path, base: pathlib.Path) -> None:
  """What the shared expert gives is not scaled."""
  conversion = _Conversion(base)
  for graph in conversion.signatures():
    for sigmoid in conversion.operators(graph, "LOGISTIC"):
      scale = int(sigmoid.outputs[0])
      if int(graph.tensors[scale].shape[-1]) != 1:
        continue
      (multiply,) = _readers(graph, scale)
      (other,) = [int(i) for i in multiply.inputs if int(i) != scale]
      _read_instead(graph, int(multiply.outputs[0]), other)
      product = conversion.producer(graph, sigmoid.inputs[0])
      _remove(conversion, graph, [multiply, sigmoid, product])
  conversion.save(out)
