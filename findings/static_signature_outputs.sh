#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ai-edge-quantizer 0.10.0: a static recipe leaves a signature that names a
# tensor which is no output of its graph.
#
# Where an output is read by another operator that stays float (here COS; in
# LLMs the attention composite reads every KV cache), a DEQUANTIZE is put behind
# it, and the graph's output becomes the float tensor that this gives, while the
# signature goes on naming the integer one. Nothing says so: the quantiser
# returns, the model loads, and the interpreter's signature runner returns
# whatever its memory holds by then. LLMs so converted lose their KV caches.
#
# Seen:
#   graph outputs: y_dequant, c_quantized
#   signature outputs: c -> c_quantized, y -> y (no output of the graph)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0

"$work/venv/bin/python" - "$work" <<'P'
import pathlib
import sys

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import quantizer
from ai_edge_quantizer import recipe

path = pathlib.Path(sys.argv[1]) / "model.tflite"
weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)


def code(number: int):
  result = schema.OperatorCodeT()
  result.builtinCode = result.deprecatedBuiltinCode = number
  result.version = 1
  return result


def operator(opcode: int, inputs: list[int], outputs: list[int]):
  result = schema.OperatorT()
  result.opcodeIndex, result.inputs, result.outputs = opcode, inputs, outputs
  return result


def named(name: bytes, tensor: int):
  result = schema.TensorMapT()
  result.name, result.tensorIndex = name, tensor
  return result


model = schema.ModelT()
model.version = 3
ops = schema.BuiltinOperator
model.operatorCodes = [code(ops.FULLY_CONNECTED), code(ops.COS)]
model.buffers = [schema.BufferT(), schema.BufferT()]
model.buffers[1].data = np.frombuffer(weights.tobytes(), np.uint8)
tensors = []
for name, shape, buffer in (
    (b"x", [1, 8], 0),
    (b"w", [8, 8], 1),
    (b"y", [1, 8], 0),
    (b"c", [1, 8], 0),
):
  tensor = schema.TensorT()
  tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
  tensor.type = schema.TensorType.FLOAT32
  tensors.append(tensor)
product = operator(0, [0, 1, -1], [2])
product.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
product.builtinOptions = schema.FullyConnectedOptionsT()
cosine = operator(1, [2], [3])
cosine.builtinOptionsType = schema.BuiltinOptions.CosOptions
cosine.builtinOptions = schema.CosOptionsT()
graph = schema.SubGraphT()
graph.tensors, graph.operators = tensors, [product, cosine]
graph.inputs, graph.outputs = [0], [2, 3]
model.subgraphs = [graph]
signature = schema.SignatureDefT()
signature.signatureKey, signature.subgraphIndex = b"run", 0
signature.inputs = [named(b"x", 0)]
signature.outputs = [named(b"c", 3), named(b"y", 2)]
model.signatureDefs = [signature]
builder = flatbuffers.Builder(1 << 12)
builder.Finish(model.Pack(builder), b"TFL3")
path.write_bytes(bytes(builder.Output()))

tool = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
data = [{"x": np.full((1, 8), v, np.float32)} for v in (-1, -0.5, 0.5, 1)]
made = bytearray(tool.quantize(tool.calibrate({"run": data})).quantized_model)
got = schema.ModelT.InitFromPackedBuf(made, 0)
graph = got.subgraphs[0]
outputs = [int(index) for index in graph.outputs]
print("graph outputs:", ", ".join(graph.tensors[i].name.decode() for i in outputs))
wrong = False
said = []
for item in got.signatureDefs[0].outputs:
  at = int(item.tensorIndex)
  wrong |= at not in outputs
  said.append(
      f"{item.name.decode()} -> {graph.tensors[at].name.decode()}"
      + ("" if at in outputs else " (no output of the graph)")
  )
print("signature outputs:", ", ".join(said))
if not wrong:
  sys.exit("the signature names outputs of its graph: this changed")
P
