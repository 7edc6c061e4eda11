#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ai-edge-quantizer 0.10.0: DEQUANTIZED_WEIGHT_RECOVERY accepts, and destroys,
# small weights that lie on no grid.
#
# The algorithm is for weights of quantisation-aware training, which are
# multiples of a scale. It takes the smallest difference of two weights of a row
# for that scale, and raises an error where what it recovers differs from the
# weights by more than 1e-4. That limit is absolute. Weights of 1e-5, of a layer
# behind a large norm, say, differ by less than it whatever becomes of them: all
# are cut off at 127 times a tiny scale, and nothing is said. The same weights
# times 1000 are refused, as they should be.
#
# Seen:
#   weights of 1e-02: refused: Failed to recover weights.
#   weights of 1e-05: accepted; relative error of the weights 1.0
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

work = pathlib.Path(sys.argv[1])


def fully_connected(weights: np.ndarray) -> bytes:
  """One FULLY_CONNECTED, as a .tflite file."""
  model = schema.ModelT()
  model.version = 3
  code = schema.OperatorCodeT()
  code.builtinCode = code.deprecatedBuiltinCode = (
      schema.BuiltinOperator.FULLY_CONNECTED
  )
  code.version = 1
  model.operatorCodes = [code]
  empty, data = schema.BufferT(), schema.BufferT()
  data.data = np.frombuffer(weights.tobytes(), np.uint8)
  model.buffers = [empty, data]
  rows, columns = weights.shape
  tensors = []
  for name, shape, buffer in (
      (b"x", [1, columns], 0),
      (b"w", [rows, columns], 1),
      (b"y", [1, rows], 0),
  ):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
    tensor.type = schema.TensorType.FLOAT32
    tensors.append(tensor)
  operator = schema.OperatorT()
  operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, -1], [2]
  operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
  operator.builtinOptions = schema.FullyConnectedOptionsT()
  graph = schema.SubGraphT()
  graph.tensors, graph.operators = tensors, [operator]
  graph.inputs, graph.outputs = [0], [2]
  model.subgraphs = [graph]
  builder = flatbuffers.Builder(1 << 16)
  builder.Finish(model.Pack(builder), b"TFL3")
  return bytes(builder.Output())


def recovered(weights: np.ndarray) -> np.ndarray:
  path = work / "model.tflite"
  path.write_bytes(fully_connected(weights))
  tool = quantizer.Quantizer(str(path))
  tool.add_weight_only_config(
      ".*",
      recipe.TFLOperationName.FULLY_CONNECTED,
      8,
      recipe.QuantGranularity.CHANNELWISE,
      recipe.AlgorithmName.DEQUANTIZED_WEIGHT_RECOVERY,
  )
  made = schema.ModelT.InitFromPackedBuf(bytearray(tool.quantize().quantized_model), 0)
  (tensor,) = [
      t
      for t in made.subgraphs[0].tensors
      if t.type == schema.TensorType.INT8
  ]
  codes = made.buffers[tensor.buffer].data.view(np.int8).reshape(weights.shape)
  return codes * np.asarray(tensor.quantization.scale)[:, None]


normal = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
try:
  recovered(normal * np.float32(1e-2))
  sys.exit("weights of 1e-02 are accepted: this changed")
except ValueError as error:
  place = str(error).index("Failed to recover weights")
  print("weights of 1e-02: refused:", str(error)[place:].split(" Original")[0])
small = normal * np.float32(1e-5)
got = recovered(small)
error = np.linalg.norm(got - small) / np.linalg.norm(small)
print(f"weights of 1e-05: accepted; relative error of the weights {error:.1f}")
if error < 0.5:
  sys.exit("they are no longer destroyed: this changed")
P
