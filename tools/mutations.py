# SPDX-License-Identifier: Apache-2.0
"""Conversions broken on purpose, one fault each.

Each is a sound conversion whose flatbuffer is changed afterwards, which takes a
fraction of a second. The table of all of them, with what verify_tflite must
say, is mutation_table.py.
"""

import pathlib

import numpy as np


# Layer shape of checkpoints.tiny: two KV heads, each with two query heads,
# fused by the classic converter as [q, q, k, v] for each KV head.
_HEAD_DIM = 16


class Conversion:
  """A .tflite file whose constants and operators can be changed.

  Constants are changed in place, so that the rest of the file stays as the
  converter wrote it; changes to operators set `repack`.
  """

  _DTYPES = {
      "FLOAT32": np.float32,
      "INT32": np.int32,
      "INT64": np.int64,
      "INT8": np.int8,
      "BOOL": np.bool_,
  }
  # Whose name is not the operator's.
  _OPTIONS = {
      "MAXIMUM": "MaximumMinimumOptions",
      "MINIMUM": "MaximumMinimumOptions",
      "SELECT_V2": "SelectV2Options",
  }

  def __init__(self, path: pathlib.Path):
    from ai_edge_litert import schema_py_generated as schema

    self.schema = schema
    self.bytes = bytearray(path.read_bytes())
    self.model = schema.ModelT.InitFromPackedBuf(self.bytes, 0)
    self.repack = False
    self._op_names = self._names(schema.BuiltinOperator)
    self._type_names = self._names(schema.TensorType)

  @staticmethod
  def _names(kind) -> dict[int, str]:
    return {v: k for k, v in vars(kind).items() if isinstance(v, int)}

  def save(self, out: pathlib.Path) -> None:
    if not self.repack:
      out.write_bytes(self.bytes)
      return
    import flatbuffers

    for buffer in self.model.buffers:
      if buffer.offset > 1:  # constants behind the flatbuffer
        buffer.data, buffer.offset, buffer.size = self._data(buffer), 0, 0
    builder = flatbuffers.Builder(1 << 24)
    builder.Finish(self.model.Pack(builder), b"TFL3")
    out.write_bytes(builder.Output())

  def graph(self, signature: str):
    for item in self.model.signatureDefs:
      if item.signatureKey.decode() == signature:
        return self.model.subgraphs[item.subgraphIndex]
    raise KeyError(signature)

  @property
  def decode(self):
    return self.graph("decode")

  def prefills(self) -> list:
    return [
        self.model.subgraphs[item.subgraphIndex]
        for item in self.model.signatureDefs
        if item.signatureKey.startswith(b"prefill")
    ]

  def signatures(self) -> list:
    return [*self.prefills(), self.decode]

  def kind(self, operator) -> str:
    code = self.model.operatorCodes[operator.opcodeIndex]
    return self._op_names[max(code.builtinCode, code.deprecatedBuiltinCode)]

  def operators(self, graph, *kinds: str) -> list:
    return [op for op in graph.operators if self.kind(op) in kinds]

  def producer(self, graph, tensor: int):
    return next(op for op in graph.operators if tensor in list(op.outputs))

  def composites(self, graph, name: str) -> list:
    return [
        op
        for op in self.operators(graph, "STABLEHLO_COMPOSITE")
        if op.builtinOptions2.name == name.encode()
    ]

  def _data(self, buffer) -> np.ndarray | None:
    if buffer.offset > 1:
      return np.frombuffer(
          self.bytes, np.uint8, count=buffer.size, offset=buffer.offset
      )
    return buffer.data if isinstance(buffer.data, np.ndarray) else None

  def constant(self, graph, tensor: int) -> np.ndarray | None:
    """A constant's values, to be read or changed; None for what is none."""
    if tensor < 0:
      return None
    item = graph.tensors[tensor]
    data = self._data(self.model.buffers[item.buffer])
    dtype = self._DTYPES.get(self._type_names[item.type])
    if data is None or not len(data) or dtype is None:
      return None
    shape = [] if item.shape is None else [int(size) for size in item.shape]
    return data.view(dtype).reshape(shape)

  def new_constant(self, graph, values: np.ndarray, like: int) -> int:
    """A constant of the type and name of another."""
    buffer = self.schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8).copy()
    buffer.offset = buffer.size = 0
    self.model.buffers.append(buffer)
    index = self.new_tensor(graph, list(values.shape), like)
    graph.tensors[index].buffer = len(self.model.buffers) - 1
    graph.tensors[index].quantization = graph.tensors[like].quantization
    return index

  def new_tensor(self, graph, shape: list[int], like: int) -> int:
    tensor = self.schema.TensorT()
    tensor.shape, tensor.buffer = shape, 0
    tensor.type = graph.tensors[like].type
    tensor.name = graph.tensors[like].name + b"_changed"
    graph.tensors.append(tensor)
    self.repack = True
    return len(graph.tensors) - 1

  def set_input(self, operator, place: int, tensor: int) -> None:
    operator.inputs = [int(index) for index in operator.inputs]
    operator.inputs[place] = tensor
    self.repack = True

  def _code_of(self, kind: str) -> int:
    for i, code in enumerate(self.model.operatorCodes):
      if (
          self._op_names[max(code.builtinCode, code.deprecatedBuiltinCode)]
          == kind
      ):
        return i
    new = self.schema.OperatorCodeT()
    new.builtinCode = getattr(self.schema.BuiltinOperator, kind)
    new.deprecatedBuiltinCode = min(new.builtinCode, 127)
    new.version = 1
    self.model.operatorCodes.append(new)
    return len(self.model.operatorCodes) - 1

  def insert(self, graph, before, kind: str, inputs: list[int], output: int):
    """Puts an elementwise operator before another."""
    operator = self.schema.OperatorT()
    operator.opcodeIndex = self._code_of(kind)
    operator.inputs, operator.outputs = inputs, [output]
    options = self._OPTIONS.get(kind, kind.capitalize() + "Options")
    operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
    operator.builtinOptions = getattr(self.schema, options + "T")()
    place = next(i for i, op in enumerate(graph.operators) if op is before)
    graph.operators.insert(place, operator)
    self.repack = True
    return operator

  def linear_tensors(self, graph) -> dict[str, int]:
    """Role -> weight: "2.down", "head", … Prefill lacks the last of them."""
    found = self.operators(self.decode, "FULLY_CONNECTED")
    parts = ["q", "k", "v", "o", "gate", "up", "down"]
    if b"qkv_projection" in self.decode.tensors[found[0].outputs[0]].name:
      parts = ["qkv", "o", "gate", "up", "down"]
    roles = [
        f"{i // len(parts)}.{parts[i % len(parts)]}"
        for i in range(len(found) - 1)
    ] + ["head"]
    weights = [int(op.inputs[1]) for op in found]
    if graph is self.decode:
      return dict(zip(roles, weights))
    by_buffer = {
        self.decode.tensors[tensor].buffer: role
        for role, tensor in zip(roles, weights)
    }
    return {
        by_buffer[graph.tensors[op.inputs[1]].buffer]: int(op.inputs[1])
        for op in self.operators(graph, "FULLY_CONNECTED")
    }

  def linear(self, role: str) -> np.ndarray:
    """A weight that all signatures share."""
    return self.constant(self.decode, self.linear_tensors(self.decode)[role])

  def scales(self, role: str) -> list[np.ndarray]:
    """Its quantisation scales: each signature has its own copy of them."""
    return [
        graph.tensors[tensors[role]].quantization.scale
        for graph in self.signatures()
        if role in (tensors := self.linear_tensors(graph))
    ]

  def num_layers(self) -> int:
    return sum(
        role.endswith(".down") for role in self.linear_tensors(self.decode)
    )

  def norms(self) -> list[np.ndarray]:
    """RMS norm weights in the order of the graph."""
    return [
        self.constant(self.decode, int(op.inputs[1]))
        for op in self.composites(self.decode, "odml.rms_norm")
    ]

  def embedding(self) -> np.ndarray:
    (op,) = self.operators(self.decode, "EMBEDDING_LOOKUP")
    return self.constant(self.decode, int(op.inputs[1]))

  def untie_head(self) -> np.ndarray:
    """Gives the head a copy of its own of a table it shared."""
    op = self.operators(self.decode, "FULLY_CONNECTED")[-1]
    old = int(op.inputs[1])
    values = self.constant(self.decode, old).copy()
    new = self.new_constant(self.decode, values, old)
    self.set_input(op, 1, new)
    return self.constant(self.decode, new)

  def frequencies(self, graph) -> list[np.ndarray]:
    """The rotary tables that positions are multiplied with."""
    found = []
    for op in self.operators(graph, "COS"):
      source = self.producer(graph, op.inputs[0])
      if self.kind(source) == "CONCATENATION":
        source = self.producer(graph, source.inputs[0])
      found.append(self.constant(graph, int(source.inputs[1])))
    return found

  def rotary_casts(self, graph) -> list:
    """The operators that make positions floating point for RoPE."""
    return self.operators(graph, "CAST")

  def attention_masks(self, graph) -> list[np.ndarray]:
    return [
        values
        for op in self.operators(graph, "GATHER_ND")
        if (values := self.constant(graph, int(op.inputs[0]))) is not None
    ]

  def once(self, arrays) -> list[np.ndarray]:
    """Without those that share memory: signatures share their constants."""
    return list(
        {a.__array_interface__["data"][0]: a for a in arrays}.values()
    )


def _distinct_frequencies(conversion: Conversion, place: int):
  """The table that is `place`-th by its frequencies, the slowest first.

  Their order in the graph changes from conversion to conversion.
  """
  return conversion.once(
      sorted(conversion.frequencies(graph), key=lambda table: table.sum())[
          place
      ]
      for graph in conversion.signatures()
  )


def _scaled_base(table: np.ndarray, factor: float) -> None:
  """theta_i = base^(-i/n), so another base multiplies each by factor^(-i/n)."""
  steps = np.arange(table.size) / table.size
  table *= (factor**-steps).reshape(table.shape).astype(np.float32)


def rope_base(
    out: pathlib.Path, base: pathlib.Path, factor: float, place: int = 0
) -> None:
  """RoPE of another base; `place` counts a model's rotary tables."""
  conversion = Conversion(base)
  for table in _distinct_frequencies(conversion, place):
    _scaled_base(table, factor)
  conversion.save(out)


def rope_scale(
    out: pathlib.Path, base: pathlib.Path, factor: float, place: int = 0
) -> None:
  """All rotary frequencies multiplied: scaling lost, or no RoPE for 0."""
  conversion = Conversion(base)
  for table in _distinct_frequencies(conversion, place):
    table *= np.float32(factor)
  conversion.save(out)


def _interleaved(rows: np.ndarray, head_dim: int) -> np.ndarray:
  """Rows as Meta's checkpoints have them: pairs of RoPE side by side."""
  shape = rows.shape
  rows = rows.reshape(-1, 2, head_dim // 2, shape[-1])
  return rows.swapaxes(1, 2).reshape(shape)


def rope_interleaved(out: pathlib.Path, base: pathlib.Path) -> None:
  """q and k not permuted for half-split RoPE."""
  conversion = Conversion(base)
  for layer in range(conversion.num_layers()):
    for part in "qk":
      rows = conversion.linear(f"{layer}.{part}")
      rows[:] = _interleaved(rows, _HEAD_DIM)
  conversion.save(out)


def rope_layer_lost(out: pathlib.Path, base: pathlib.Path, layer: int) -> None:
  """One layer's q and k are not rotated at all: its table is zero."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    cos = conversion.operators(graph, "COS")[0].outputs[0]
    sin = conversion.operators(graph, "SIN")[0].outputs[0]
    for table, value in ((cos, 1.0), (sin, 0.0)):
      users = [
          op
          for op in conversion.operators(graph, "MUL")
          if table in list(op.inputs)
      ]
      shape = [int(size) for size in graph.tensors[table].shape]
      values = np.full(shape, value, np.float32)
      new = conversion.new_constant(graph, values, int(table))
      for op in users[2 * layer : 2 * layer + 2]:  # q and k
        conversion.set_input(op, list(op.inputs).index(table), new)
  conversion.save(out)


def decode_position(out: pathlib.Path, base: pathlib.Path, shift: int) -> None:
  """RoPE of decode is off by some positions; the cache slots are right."""
  conversion = Conversion(base)
  graph = conversion.decode
  (cast,) = conversion.rotary_casts(graph)
  old = int(cast.inputs[0])
  shape = [int(size) for size in graph.tensors[old].shape]
  offset = conversion.new_constant(graph, np.full(shape, shift, np.int32), old)
  new = conversion.new_tensor(graph, shape, old)
  conversion.insert(graph, cast, "ADD", [old, offset], new)
  conversion.set_input(cast, 0, new)
  conversion.save(out)


def positions_restart(out: pathlib.Path, base: pathlib.Path) -> None:
  """RoPE of prefill counts from 0 in every chunk; the slots are right."""
  conversion = Conversion(base)
  for graph in conversion.prefills():
    (cast,) = conversion.rotary_casts(graph)
    old = int(cast.inputs[0])
    shape = [int(size) for size in graph.tensors[old].shape]
    counted = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    conversion.set_input(cast, 0, conversion.new_constant(graph, counted, old))
  conversion.save(out)


def _write_mask(table: np.ndarray, fault: str) -> None:
  allowed, blocked = table.max(), table.min()
  size = table.shape[-1]
  row, column = np.ogrid[:size, :size]
  seen = {
      "none": np.ones((size, size), bool),
      "peek": column <= row + 1,
      "strict": (column < row) | (row + column == 0),
      "window": (column <= row) & (column > row - 16),
  }[fault]
  table[:] = np.where(seen, allowed, blocked).reshape(table.shape)


def mask(out: pathlib.Path, base: pathlib.Path, fault: str) -> None:
  """Another mask than the causal one, in all signatures."""
  conversion = Conversion(base)
  tables = [
      table
      for graph in conversion.signatures()
      for table in conversion.attention_masks(graph)
  ]
  for table in conversion.once(tables):
    _write_mask(table, fault)
  conversion.save(out)


def mask_of(
    out: pathlib.Path, base: pathlib.Path, fault: str, signatures: list[str]
) -> None:
  """Another mask in some signatures only."""
  conversion = Conversion(base)
  for graph in map(conversion.graph, signatures):
    for op in conversion.operators(graph, "GATHER_ND"):
      old = int(op.inputs[0])
      values = conversion.constant(graph, old).copy()
      _write_mask(values, fault)
      conversion.set_input(op, 0, conversion.new_constant(graph, values, old))
  conversion.save(out)


def mask_rows(
    out: pathlib.Path,
    base: pathlib.Path,
    fault: str,
    first: int,
    last: int,
    hidden: int = 0,
) -> None:
  """Rows `first` to `last` of the causal mask's table are wrong.

  "future": they see all; "past": they do not see the first `hidden` tokens.
  """
  conversion = Conversion(base)
  tables = [
      table
      for graph in conversion.signatures()
      for table in conversion.attention_masks(graph)
  ]
  for table in conversion.once(tables):
    rows = table.reshape(table.shape[0], -1)[first : last + 1]
    if fault == "future":
      rows[:] = table.max()
    else:
      rows[:, :hidden] = table.min()
  conversion.save(out)


def _rope_of(
    checkpoint: pathlib.Path, changes: dict
) -> tuple[np.ndarray, float]:
  """transformers' frequencies and attention factor, with other parameters."""
  import torch
  import transformers
  from transformers import modeling_rope_utils

  config = transformers.AutoConfig.from_pretrained(checkpoint)
  rope = dict(config.rope_parameters) | changes
  config.rope_parameters = rope
  if rope["rope_type"] == "default":
    size = config.head_dim
    steps = torch.arange(0, size, 2).float() / size
    return (1 / rope["rope_theta"] ** steps).numpy(), 1.0
  compute = modeling_rope_utils.ROPE_INIT_FUNCTIONS[rope["rope_type"]]
  frequencies, factor = compute(config, torch.device("cpu"))
  return frequencies.numpy(), float(factor)


def rope_parameters(
    out: pathlib.Path,
    base: pathlib.Path,
    rope_of: pathlib.Path,
    changes: dict,
) -> None:
  """RoPE as transformers computes it with other parameters.

  Args:
    rope_of: the checkpoint that `base` is made of.
    changes: to its rope_parameters.
  """
  conversion = Conversion(base)
  old, old_factor = _rope_of(rope_of, {})
  new, new_factor = _rope_of(rope_of, changes)
  for table in conversion.once(
      table
      for graph in conversion.signatures()
      for table in conversion.frequencies(graph)
  ):
    assert np.allclose(table.ravel(), old, rtol=1e-6), "other frequencies"
    table[...] = new.reshape(table.shape)
  if abs(new_factor - old_factor) > 1e-9:
    assert _replace_scalars(conversion, ("MUL",), old_factor, new_factor)
  conversion.save(out)


def rope_entry(
    out: pathlib.Path, base: pathlib.Path, index: int, factor: float
) -> None:
  """One frequency of RoPE is off."""
  conversion = Conversion(base)
  for table in _distinct_frequencies(conversion, 0):
    table.reshape(-1)[index] *= np.float32(factor)
  conversion.save(out)


def mask_short(out: pathlib.Path, base: pathlib.Path, rows: int) -> None:
  """The mask's table ends before the KV cache does."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    for op in conversion.operators(graph, "GATHER_ND"):
      old = int(op.inputs[0])
      values = conversion.constant(graph, old)[:rows].copy()
      conversion.set_input(op, 0, conversion.new_constant(graph, values, old))
  assert conversion.repack, "no table"
  conversion.save(out)


def prefill_row(
    out: pathlib.Path,
    base: pathlib.Path,
    signature: str,
    role: str,
    row: int,
    column: int,
    size: float,
) -> None:
  """One number of one row of a product is off, in one prefill signature."""
  conversion = Conversion(base)
  graph = conversion.graph(signature)
  weight = conversion.linear_tensors(graph)[role]
  (product,) = [
      op
      for op in conversion.operators(graph, "FULLY_CONNECTED")
      if int(op.inputs[1]) == weight
  ]
  old = int(product.outputs[0])
  shape = [int(size) for size in graph.tensors[old].shape]
  values = np.zeros(shape, np.float32)
  values.reshape(-1, shape[-1])[row, column] = size
  offset = conversion.new_constant(graph, values, old)
  graph.tensors[offset].quantization = None
  new = conversion.new_tensor(graph, shape, old)
  users = [op for op in graph.operators if old in list(op.inputs)]
  conversion.insert(graph, users[0], "ADD", [old, offset], new)
  for op in users:
    conversion.set_input(op, list(op.inputs).index(old), new)
  conversion.save(out)


def _replace_scalars(
    conversion: Conversion, kinds: tuple[str, ...], old: float, new: float
) -> int:
  """Gives operators with one scalar input another; returns how many."""
  count = 0
  for graph in conversion.signatures():
    for op in conversion.operators(graph, *kinds):
      for place, tensor in enumerate(list(op.inputs)):
        values = conversion.constant(graph, int(tensor))
        if values is None or values.size != 1:
          continue
        if abs(float(values.reshape(())) - old) > 1e-5 * abs(old):
          continue
        changed = np.full(values.shape, new, values.dtype)
        conversion.set_input(
            op, place, conversion.new_constant(graph, changed, int(tensor))
        )
        count += 1
  return count


def scalar(
    out: pathlib.Path,
    base: pathlib.Path,
    kinds: tuple[str, ...],
    old: float,
    new: float,
) -> None:
  """Another scalar constant: attention scale, window, embedding scale."""
  conversion = Conversion(base)
  assert _replace_scalars(conversion, kinds, old, new), "no such constant"
  conversion.save(out)


def composite_scale(
    out: pathlib.Path, base: pathlib.Path, factor: float
) -> None:
  """Scores of a classic conversion scaled otherwise: the composite's attribute
  and its decomposition, where q and k are each multiplied by the root."""
  conversion = Conversion(base)
  arrays = []
  for graph in conversion.signatures():
    for op in conversion.composites(
        graph, "odml.scaled_dot_product_attention"
    ):
      body = conversion.model.subgraphs[
          op.builtinOptions2.decompositionSubgraphIndex
      ]
      roots = [
          conversion.constant(body, int(mul.inputs[1]))
          for mul in conversion.operators(body, "MUL")
      ]
      arrays += roots
      old = np.float32(np.prod([root.reshape(()) for root in roots]))
      attributes = op.builtinOptions2.compositeAttributes
      # After the key's zero byte and the length of the map. The root of a scale
      # that is no power of four was rounded.
      places = [
          place
          for place in range(len(attributes) - 3)
          if np.isclose(
              attributes[place : place + 4].copy().view(np.float32)[0],
              old,
              rtol=1e-6,
          )
      ]
      assert len(places) == 1, "no scale in the attributes of attention"
      new = np.float32(old * factor)
      attributes[places[0] : places[0] + 4] = np.frombuffer(
          new.tobytes(), np.uint8
      )
  for root in conversion.once(arrays):
    root *= np.float32(factor**0.5)
  conversion.save(out)


def _scale_input(
    conversion: Conversion, graph, operator, place: int, factor: float
) -> None:
  """Gives an operator a multiple of the constant that it reads."""
  old = int(operator.inputs[place])
  values = conversion.constant(graph, old) * np.float32(factor)
  conversion.set_input(
      operator, place, conversion.new_constant(graph, np.asarray(values), old)
  )


def soft_capping(out: pathlib.Path, base: pathlib.Path, final: bool) -> None:
  """Soft-capping lost, of the logits or of the attention scores."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    outputs = {int(index) for index in graph.outputs}
    for tanh in conversion.operators(graph, "TANH"):
      (after,) = [
          op for op in graph.operators if tanh.outputs[0] in list(op.inputs)
      ]
      if (int(after.outputs[0]) in outputs) != final:
        continue
      # c tanh(x / c) is x for so large a c. In the final capping, 1/c is part
      # of the head.
      before = conversion.producer(graph, tanh.inputs[0])
      _scale_input(conversion, graph, before, 1, 1 / 4096)
      _scale_input(conversion, graph, after, 1, 4096)
  assert conversion.repack, "no soft-capping"
  conversion.save(out)


def cap(
    out: pathlib.Path, base: pathlib.Path, final: bool, factor: float
) -> None:
  """Another cap, of the logits or of the attention scores."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    outputs = {int(index) for index in graph.outputs}
    for tanh in conversion.operators(graph, "TANH"):
      (after,) = [
          op for op in graph.operators if tanh.outputs[0] in list(op.inputs)
      ]
      if (int(after.outputs[0]) in outputs) != final:
        continue
      before = conversion.producer(graph, tanh.inputs[0])
      _scale_input(conversion, graph, before, 1, 1 / factor)
      _scale_input(conversion, graph, after, 1, factor)
  assert conversion.repack, "no soft-capping"
  conversion.save(out)


def norm_eps(out: pathlib.Path, base: pathlib.Path, old: float, new: float):
  """Another epsilon in all RMS norms: the attribute and the decomposition."""
  conversion = Conversion(base)
  was, now = np.float32(old).tobytes(), np.float32(new).tobytes()
  arrays = []
  for graph in conversion.signatures():
    for op in conversion.composites(graph, "odml.rms_norm"):
      attributes = op.builtinOptions2.compositeAttributes
      place = attributes.tobytes().find(was)
      assert place >= 0, "no epsilon in a norm's attributes"
      attributes[place : place + 4] = np.frombuffer(now, np.uint8)
      body = conversion.model.subgraphs[
          op.builtinOptions2.decompositionSubgraphIndex
      ]
      for add in conversion.operators(body, "ADD"):
        arrays.append(conversion.constant(body, int(add.inputs[1])))
  for values in conversion.once(a for a in arrays if a is not None):
    values[...] = np.float32(new)
  conversion.save(out)


def norm_weights(out: pathlib.Path, base: pathlib.Path, fault: str) -> None:
  """RMS norm weights gone wrong."""
  conversion = Conversion(base)
  norms = conversion.once(conversion.norms())
  if fault == "minus_one":  # Gemma's weights are 1 + w
    for weight in norms:
      weight -= np.float32(1)
  elif fault == "final_lost":
    norms[-1][:] = norms[-1].mean()
  elif fault == "swapped":
    norms[2][:], norms[3][:] = norms[3].copy(), norms[2].copy()
  elif fault == "bfloat16":
    for weight in norms:
      weight[:] = _bfloat16(weight)
  else:
    raise ValueError(fault)
  conversion.save(out)


def _bfloat16(values: np.ndarray) -> np.ndarray:
  bits = values.view(np.uint32)
  rounded = bits + 0x7FFF + ((bits >> 16) & 1)
  return (rounded & 0xFFFF0000).astype(np.uint32).view(np.float32)


def qk_norm_lost(out: pathlib.Path, base: pathlib.Path) -> None:
  """Heads of q and k are not normed: their users read what comes before."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    for norm in conversion.composites(graph, "odml.rms_norm"):
      name = graph.tensors[norm.outputs[0]].name
      if b"q_norm" not in name and b"k_norm" not in name:
        continue
      for op in graph.operators:
        for place, tensor in enumerate(list(op.inputs)):
          if tensor == norm.outputs[0]:
            conversion.set_input(op, place, int(norm.inputs[0]))
  assert conversion.repack, "no q_norm or k_norm"
  conversion.save(out)


def layers_swapped(out: pathlib.Path, base: pathlib.Path, a: int, b: int):
  """Two layers in each other's place: weights, scales and norms."""
  conversion = Conversion(base)
  for first, second in _layer_arrays(conversion, a, b):
    first[:], second[:] = second.copy(), first.copy()
  conversion.save(out)


def layer_repeated(out: pathlib.Path, base: pathlib.Path, a: int, b: int):
  """Layer a's weights stand in layer b's place too."""
  conversion = Conversion(base)
  for first, second in _layer_arrays(conversion, a, b):
    second[:] = first
  conversion.save(out)


def _layer_arrays(conversion: Conversion, a: int, b: int) -> list[tuple]:
  roles = conversion.linear_tensors(conversion.decode)
  pairs = []
  for role in roles:
    if not role.startswith(f"{a}."):
      continue
    other = f"{b}." + role.split(".")[1]
    pairs.append((conversion.linear(role), conversion.linear(other)))
    if conversion.linear(role).dtype == np.int8:
      pairs += zip(
          conversion.scales(role), conversion.scales(other), strict=True
      )
  norms = conversion.norms()
  for i in range(2):
    pairs.append((norms[2 * a + i], norms[2 * b + i]))
  return pairs


def layer_skipped(out: pathlib.Path, base: pathlib.Path, layer: int) -> None:
  """A layer that adds nothing to the residual stream."""
  conversion = Conversion(base)
  for part in ("o", "down"):
    conversion.linear(f"{layer}.{part}")[:] = 0
  conversion.save(out)


def _fused_heads(conversion: Conversion, layer: int) -> np.ndarray:
  """[KV head, (q, q, k, v), head_dim, hidden]"""
  rows = conversion.linear(f"{layer}.qkv")
  return rows.reshape(2, 4, _HEAD_DIM, rows.shape[-1])


def heads(out: pathlib.Path, base: pathlib.Path, fault: str) -> None:
  """Attention heads mixed up in every layer of a classic conversion."""
  conversion = Conversion(base)
  for layer in range(conversion.num_layers()):
    fused = _fused_heads(conversion, layer)
    output = conversion.linear(f"{layer}.o")
    columns = output.reshape(output.shape[0], 4, _HEAD_DIM)
    if fault == "q_k":
      fused[:, [1, 2]] = fused[:, [2, 1]]
    elif fault == "k_v":
      fused[:, [2, 3]] = fused[:, [3, 2]]
    elif fault == "kv_heads":
      fused[[0, 1], 2:] = fused[[1, 0], 2:]
    elif fault == "grouping":
      # Query head h attends to KV head h % 2 instead of h // 2.
      first, second = fused[0, 1].copy(), fused[1, 0].copy()
      fused[0, 1], fused[1, 0] = second, first
      columns[:, [1, 2]] = columns[:, [2, 1]]
    else:
      raise ValueError(fault)
  conversion.save(out)


def weight(
    out: pathlib.Path, base: pathlib.Path, role: str, fault: str
) -> None:
  """One weight tensor gone wrong."""
  conversion = Conversion(base)
  values = conversion.linear(role)
  if fault == "transposed":
    values[:] = values.T.copy()
  elif fault == "zero":
    values[:] = 0
  elif fault == "head_negated":
    values[:, :_HEAD_DIM] *= -1
  elif fault == "row_lost":
    values[5] = 0
  elif fault == "nan":
    values[3, 3] = np.nan
  elif fault == "infinity":
    values[3, 3] = np.inf
  else:
    raise ValueError(fault)
  conversion.save(out)


def scales(out: pathlib.Path, base: pathlib.Path, role: str, fault: str):
  """The quantisation scales of one weight gone wrong."""
  conversion = Conversion(base)
  for values in conversion.scales(role):
    if fault == "doubled":
      values *= np.float32(2)
    elif fault == "5_percent":
      values *= np.float32(1.05)
    elif fault == "reversed":
      values[:] = values[::-1].copy()
    else:
      raise ValueError(fault)
  conversion.save(out)


def zero_scale(
    out: pathlib.Path, base: pathlib.Path, role: str, row: int
) -> None:
  """What quantisers make of a row of zeros: a scale of 0."""
  conversion = Conversion(base)
  conversion.linear(role)[row] = 0
  for scale in conversion.scales(role):
    scale[row] = 0
  conversion.repack = True
  conversion.save(out)


def all_weights(out: pathlib.Path, base: pathlib.Path, fault: str) -> None:
  """The same done to every linear layer."""
  conversion = Conversion(base)
  roles = list(conversion.linear_tensors(conversion.decode))
  for role in roles:
    values = conversion.linear(role)
    if fault == "bfloat16":
      values[:] = _bfloat16(values)
    elif role == "head":  # it is the embedding as well
      continue
    elif fault == "two_bits":
      values[:] = np.clip(np.rint(values / 64.0), -2, 1) * 64
    elif fault == "clipped":
      values[:] = np.clip(values, -24, 24)
    else:
      raise ValueError(fault)
  conversion.save(out)


def truncated(
    out: pathlib.Path, base: pathlib.Path, float_file: pathlib.Path
) -> None:
  """int8 weights rounded towards zero instead of to the nearest."""
  conversion, original = Conversion(base), Conversion(float_file)
  for role in conversion.linear_tensors(conversion.decode):
    if role == "head":  # it is the embedding as well
      continue
    steps = original.linear(role) / conversion.scales(role)[-1][:, None]
    conversion.linear(role)[:] = np.trunc(np.clip(steps, -127, 127))
  conversion.save(out)


def _quantised_rows(conversion: Conversion, role: str) -> list[np.ndarray]:
  """What belongs to each output channel of an int8 weight: row and scales."""
  return [conversion.linear(role), *conversion.once(conversion.scales(role))]


def gate_up_swapped_int8(out: pathlib.Path, base: pathlib.Path) -> None:
  """gate_up_swapped where each row has a scale."""
  conversion = Conversion(base)
  for layer in range(conversion.num_layers()):
    gate, up = (
        _quantised_rows(conversion, f"{layer}.{p}") for p in ("gate", "up")
    )
    for a, b in zip(gate, up, strict=True):
      a[:], b[:] = b.copy(), a.copy()
  conversion.save(out)


def heads_int8(out: pathlib.Path, base: pathlib.Path, fault: str) -> None:
  """heads where each row has a scale."""
  conversion = Conversion(base)
  order = np.arange(8).reshape(2, 4)  # KV head, (q, q, k, v)
  if fault == "q_k":
    order[:, [1, 2]] = order[:, [2, 1]]
  elif fault == "k_v":
    order[:, [2, 3]] = order[:, [3, 2]]
  elif fault == "kv_heads":
    order[[0, 1], 2:] = order[[1, 0], 2:]
  elif fault == "grouping":
    order[0, 1], order[1, 0] = order[1, 0], order[0, 1]
  else:
    raise ValueError(fault)
  for layer in range(conversion.num_layers()):
    for values in _quantised_rows(conversion, f"{layer}.qkv"):
      parts = values.reshape(8, _HEAD_DIM, *values.shape[1:])
      parts[:] = parts[order.ravel()].copy()
    if fault == "grouping":  # the scales of o are those of its rows
      output = conversion.linear(f"{layer}.o")
      columns = output.reshape(output.shape[0], 4, _HEAD_DIM)
      columns[:, [1, 2]] = columns[:, [2, 1]]
  conversion.save(out)


def gate_up_swapped(out: pathlib.Path, base: pathlib.Path) -> None:
  """The activation is applied to up instead of gate."""
  conversion = Conversion(base)
  for layer in range(conversion.num_layers()):
    gate, up = (conversion.linear(f"{layer}.{p}") for p in ("gate", "up"))
    gate[:], up[:] = up.copy(), gate.copy()
  conversion.save(out)


def activation(out: pathlib.Path, base: pathlib.Path) -> None:
  """x sigmoid(1.702 x), which approximates GELU, instead of SiLU."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    for op in conversion.operators(graph, "LOGISTIC"):
      old = int(op.inputs[0])
      shape = [int(size) for size in graph.tensors[old].shape]
      factor = conversion.new_constant(
          graph, np.array(1.702, np.float32), old
      )
      new = conversion.new_tensor(graph, shape, old)
      conversion.insert(graph, op, "MUL", [old, factor], new)
      conversion.set_input(op, 0, new)
  conversion.save(out)


def threshold(
    out: pathlib.Path, base: pathlib.Path, kind: str, at: float
) -> None:
  """The last layer's down reads no more than `at`, or no less."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    products = conversion.operators(graph, "FULLY_CONNECTED")
    down = products[-2 if graph is conversion.decode else -1]
    old = int(down.inputs[0])
    shape = [int(size) for size in graph.tensors[old].shape]
    limit = conversion.new_constant(graph, np.array(at, np.float32), old)
    new = conversion.new_tensor(graph, shape, old)
    if kind == "SELECT_V2":
      above = conversion.new_tensor(graph, shape, old)
      graph.tensors[above].type = conversion.schema.TensorType.BOOL
      conversion.insert(graph, down, "GREATER", [old, limit], above)
      conversion.insert(graph, down, kind, [above, limit, old], new)
    else:
      conversion.insert(graph, down, kind, [old, limit], new)
    conversion.set_input(down, 0, new)
  conversion.save(out)


def exact_gelu(out: pathlib.Path, base: pathlib.Path) -> None:
  """GELU by the error function instead of its tanh approximation."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    for op in conversion.operators(graph, "GELU"):
      assert op.builtinOptions.approximate
      op.builtinOptions.approximate = False
      conversion.repack = True
  assert conversion.repack, "no GELU"
  conversion.save(out)


def biases_zero(out: pathlib.Path, base: pathlib.Path) -> None:
  """The biases of the linear layers are lost."""
  conversion = Conversion(base)
  count = 0
  for graph in conversion.signatures():
    operators = conversion.operators(graph, "FULLY_CONNECTED")
    outputs = {int(op.outputs[0]) for op in operators}
    places = [(op, 2) for op in operators]
    # export_hf adds them by an operator of their own.
    places += [
        (op, 1)
        for op in conversion.operators(graph, "ADD")
        if int(op.inputs[0]) in outputs
    ]
    for op, place in places:
      values = conversion.constant(graph, int(op.inputs[place]))
      if values is not None and values.size > 1:
        values[...] = 0
        count += 1
  assert count, "no biases"
  conversion.save(out)


def head(
    out: pathlib.Path,
    base: pathlib.Path,
    fault: str,
    other: pathlib.Path | None = None,
) -> None:
  """The LM head is another matrix than it should be."""
  conversion = Conversion(base)
  values = conversion.linear("head")
  if fault == "tied":
    values[:] = conversion.embedding()
    conversion.save(out)
    return
  values = conversion.untie_head()
  if fault == "other":
    values[:] = Conversion(other).linear("head")
  elif fault == "shifted":
    values[:] = np.roll(values, 1, axis=0)
  elif fault == "zero":
    values[:] = 0
  elif fault == "random":
    generator = np.random.default_rng(7)
    values[:] = generator.normal(0, values.std(), values.shape)
  else:
    raise ValueError(fault)
  conversion.save(out)


def embedding_shifted(out: pathlib.Path, base: pathlib.Path) -> None:
  """Every token gets its neighbour's embedding; the head is right."""
  conversion = Conversion(base)
  conversion.untie_head()
  values = conversion.embedding()
  values[:] = np.roll(values, 1, axis=0)
  conversion.save(out)


def embedding_lost(out: pathlib.Path, base: pathlib.Path, token: int) -> None:
  """One token's embedding is zero, as one's that was added too late."""
  conversion = Conversion(base)
  conversion.untie_head()
  conversion.embedding()[token] = 0
  conversion.save(out)


def cache_slot(out: pathlib.Path, base: pathlib.Path, layer: int) -> None:
  """Decode writes one layer's K over the position before."""
  conversion = Conversion(base)
  graph = conversion.decode
  op = conversion.operators(graph, "DYNAMIC_UPDATE_SLICE")[2 * layer]
  old = int(op.inputs[2])
  pack = conversion.producer(graph, old)
  step = [
      -int(conversion.constant(graph, int(tensor)) is None)
      for tensor in pack.inputs
  ]
  back = conversion.new_constant(graph, np.array(step, np.int32), old)
  new = conversion.new_tensor(graph, [4], old)
  conversion.insert(graph, op, "ADD", [old, back], new)
  conversion.set_input(op, 2, new)
  conversion.save(out)


def cache_before_rope(out: pathlib.Path, base: pathlib.Path) -> None:
  """Decode of a classic conversion stores K as it is before RoPE."""
  conversion = Conversion(base)
  graph = conversion.decode
  linear = {
      int(op.outputs[0])
      for op in conversion.operators(graph, "FULLY_CONNECTED")
  }
  fused = {
      int(op.outputs[0])
      for op in conversion.operators(graph, "RESHAPE")
      if int(op.inputs[0]) in linear
  }
  # q, k and v of each layer are cut out of one product, in this order.
  cuts = [
      op
      for op in conversion.operators(graph, "SLICE")
      if int(op.inputs[0]) in fused
  ]
  updates = conversion.operators(graph, "DYNAMIC_UPDATE_SLICE")[::2]
  for op, cut in zip(updates, cuts[1::3], strict=True):
    conversion.set_input(op, 1, int(cut.outputs[0]))
  conversion.save(out)


def weight_of(
    out: pathlib.Path,
    base: pathlib.Path,
    other: pathlib.Path,
    role: str,
    signatures: list[str],
) -> None:
  """Some signatures have one weight of another checkpoint."""
  conversion = Conversion(base)
  values = Conversion(other).linear(role)
  for graph in map(conversion.graph, signatures):
    old = conversion.linear_tensors(graph)[role]
    new = conversion.new_constant(graph, values, old)
    for op in conversion.operators(graph, "FULLY_CONNECTED"):
      if int(op.inputs[1]) == old:
        conversion.set_input(op, 1, new)
  conversion.save(out)


def windows_swapped(out: pathlib.Path, base: pathlib.Path) -> None:
  """Layers with a sliding window have none, and the others have one."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    (whole,) = [
        int(i) for i in graph.inputs if b"mask" in graph.tensors[i].name
    ]
    (local,) = [
        int(op.outputs[0])
        for op in conversion.operators(graph, "ADD")
        if whole in list(op.inputs)
        and op.outputs[0] != op.inputs[0]
        and conversion.kind(conversion.producer(graph, op.inputs[0]))
        == "SELECT_V2"
    ]
    other = {whole: local, local: whole}
    for op in conversion.operators(graph, "CONCATENATION"):
      for place, tensor in enumerate(list(op.inputs)):
        if int(tensor) in other:
          conversion.set_input(op, place, other[int(tensor)])
  conversion.save(out)


def bool_mask(
    out: pathlib.Path, checkpoint: pathlib.Path, prefill: list[int], cache: int
) -> None:
  """What litert-torch 0.10.0 itself gets wrong: see docs/signatures.md."""
  import conversions

  conversions.export_hf_with(
      out,
      checkpoint,
      prefill_lengths=prefill,
      cache_length=cache,
      use_bool_mask=True,
  )


def _norms_before_rope(modeling):
  """HunYuan's attention as Qwen 3 has it."""
  from transformers.models.qwen3 import modeling_qwen3

  attention = modeling.HunYuanDenseV1Attention
  attention.forward = modeling_qwen3.Qwen3Attention.forward
  attention.q_norm = property(lambda self: self.query_layernorm)
  attention.k_norm = property(lambda self: self.key_layernorm)
  attention.sliding_window = None


def _norms_of_inputs(modeling):
  """EXAONE 4's norms where most decoders have theirs."""

  def forward(self, hidden_states, **options):
    normed = self.post_attention_layernorm(hidden_states)
    hidden_states = hidden_states + self.self_attn(normed, **options)[0]
    normed = self.post_feedforward_layernorm(hidden_states)
    return hidden_states + self.mlp(normed)

  modeling.Exaone4DecoderLayer.forward = forward


def _halves_turn(modeling):
  from transformers.models.llama import modeling_llama

  modeling.apply_rotary_pos_emb = modeling_llama.apply_rotary_pos_emb


def traced_otherwise(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    fault: str,
    prefill: list[int],
    cache: int,
) -> None:
  """export_hf of a PyTorch model whose code was changed before."""
  import importlib

  import conversions

  module, change = {
      "halves_turn": ("ernie4_5", _halves_turn),
      "norms_before_rope": ("hunyuan_v1_dense", _norms_before_rope),
      "norms_of_inputs": ("exaone4", _norms_of_inputs),
  }[fault]
  name = f"transformers.models.{module}.modeling_{module}"
  change(importlib.import_module(name))
  conversions.export_hf(out, checkpoint, prefill, cache)


def products_scaled(
    out: pathlib.Path, base: pathlib.Path, parts: list[str], factor: float
) -> None:
  """What products with weights give ("o", "down", "head") times a factor."""
  conversion = Conversion(base)
  for graph in conversion.signatures():
    weights = conversion.linear_tensors(graph)
    wanted = {w for role, w in weights.items() if role.split(".")[-1] in parts}
    for op in conversion.operators(graph, "FULLY_CONNECTED"):
      if int(op.inputs[1]) not in wanted:
        continue
      old = int(op.outputs[0])
      shape = [int(size) for size in graph.tensors[old].shape]
      new = conversion.new_tensor(graph, shape, old)
      op.outputs = [new]
      scale = conversion.new_constant(graph, np.array(factor, np.float32), old)
      mul = conversion.insert(graph, op, "MUL", [new, scale], old)
      # Behind it, which may be the last.
      place = next(i for i, each in enumerate(graph.operators) if each is mul)
      graph.operators[place : place + 2] = [op, mul]
  conversion.save(out)


def query_scale_lost(out: pathlib.Path, base: pathlib.Path) -> None:
  """What grows with the logarithm of the position does not grow."""
  conversion = Conversion(base)
  factors = []
  for graph in conversion.signatures():
    logs = {int(op.outputs[0]) for op in conversion.operators(graph, "LOG")}
    for op in conversion.operators(graph, "MUL"):
      if int(op.inputs[0]) in logs:
        factors.append(conversion.constant(graph, int(op.inputs[1])))
  assert factors, "no logarithm"
  for values in conversion.once(factors):
    values[...] = 0
  conversion.save(out)
