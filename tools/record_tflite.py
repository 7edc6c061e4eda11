#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small, outside, external and taps.tflite in testdata/.

By schema classes. The first has a bit of everything, the second weights that
lie behind the flatbuffer, as in files above 2 GB: its test makes it that long.
external.tflite is the first with its constants behind the flatbuffer,
taps.tflite has inner tensors. No runtime would run them. What is in them stands
in src/tflite/summary_test.cc and taps_test.cc.
"""

import pathlib
from typing import Any

from ai_edge_litert import schema_py_generated as schema
import flatbuffers

TESTDATA = pathlib.Path(__file__).resolve().parent.parent / "testdata"


def make(kind: str, **fields: Any) -> Any:
  table = getattr(schema, f"{kind}T")()
  for name, value in fields.items():
    assert hasattr(table, name), (kind, name)
    setattr(table, name, value)
  return table


def tensor(type_name: str, shape: list[int], buffer: int, **fields: Any) -> Any:
  number = getattr(schema.TensorType, type_name)
  return make("Tensor", type=number, shape=shape, buffer=buffer, **fields)


def pack(model: Any) -> bytes:
  builder = flatbuffers.Builder()
  builder.Finish(model.Pack(builder), b"TFL3")
  return bytes(builder.Output())


def outside() -> Any:
  """An int8 tensor of 1.5 GiB from byte 3 GiB, one of 10 bytes behind it."""
  gib = 1 << 30
  return make(
      "Model",
      version=3,
      subgraphs=[
          make(
              "SubGraph",
              tensors=[
                  tensor("INT8", [3 << 19, 1 << 10], 1),
                  tensor("INT8", [10], 2),
              ],
          )
      ],
      buffers=[
          make("Buffer"),
          make("Buffer", offset=3 * gib, size=3 * gib // 2),
          make("Buffer", offset=9 * gib // 2, size=10),
      ],
  )


def small() -> Any:
  ops = schema.BuiltinOperator

  def scales(n: int) -> Any:
    return make("QuantizationParameters", scale=[0.5] * n)

  blocks = make(
      "QuantizationParameters",
      detailsType=schema.QuantizationDetails.BlockwiseQuantization,
      details=make("BlockwiseQuantization", blockSize=32),
  )
  first = make(
      "SubGraph",
      tensors=[
          tensor("INT32", [1, 1], 0, shapeSignature=[1, -1]),
          tensor("FLOAT32", [1, 7], 0),
          tensor("FLOAT32", [2], 1),
          tensor("INT8", [2, 3], 2, quantization=scales(2)),
          tensor("INT8", [4], 3, quantization=scales(1)),
          tensor("INT4", [2, 32], 4, quantization=blocks),
      ],
      inputs=[0],
      outputs=[1],
      operators=[
          make("Operator", opcodeIndex=0, inputs=[0, 3], outputs=[1]),
          make("Operator", opcodeIndex=0, inputs=[0, 5], outputs=[1]),
          make("Operator", opcodeIndex=1, inputs=[0], outputs=[1]),
          make(
              "Operator",
              opcodeIndex=2,
              inputs=[0],
              outputs=[1],
              builtinOptions2Type=(
                  schema.BuiltinOptions2.StableHLOCompositeOptions
              ),
              builtinOptions2=make(
                  "StableHLOCompositeOptions",
                  name="odml.rms_norm",
                  decompositionSubgraphIndex=1,
              ),
          ),
          make("Operator", opcodeIndex=3, inputs=[0], outputs=[1]),
      ],
  )
  # Shares a constant with the first.
  second = make("SubGraph", tensors=[tensor("FLOAT32", [2], 1)])
  codes = [
      make("OperatorCode", deprecatedBuiltinCode=ops.FULLY_CONNECTED),
      make("OperatorCode", builtinCode=ops.CUSTOM, customCode="own"),
      make(
          "OperatorCode",
          deprecatedBuiltinCode=127,
          builtinCode=ops.STABLEHLO_COMPOSITE,
      ),
      make("OperatorCode", deprecatedBuiltinCode=127, builtinCode=250),
  ]
  return make(
      "Model",
      version=3,
      description="small",
      operatorCodes=codes,
      subgraphs=[first, second],
      buffers=[
          make("Buffer", data=list(range(size)) or None)
          for size in (0, 8, 6, 4, 32, 5)
      ],
      metadata=[make("Metadata", name="min_runtime_version", buffer=5)],
      signatureDefs=[
          make(
              "SignatureDef",
              signatureKey="decode",
              inputs=[make("TensorMap", name="tokens", tensorIndex=0)],
              outputs=[make("TensorMap", name="logits", tensorIndex=1)],
          )
      ],
  )


def external() -> bytes:
  """small() with its constants behind the flatbuffer."""
  model = small()
  contents = [bytes(b.data or []) for b in model.buffers]
  for buffer, content in zip(model.buffers, contents, strict=True):
    if content:
      # Any offset, so that the fields are there and the size is final.
      buffer.data, buffer.offset, buffer.size = None, 99, len(content)
  end = len(pack(model))
  tail = b""
  for buffer, content in zip(model.buffers, contents, strict=True):
    if content:
      buffer.offset = end + len(tail)
      tail += content
  return pack(model) + tail


def taps() -> Any:
  """Graphs with inner tensors, one of them of two signatures."""
  ops = schema.BuiltinOperator

  def graph() -> Any:
    return make(
        "SubGraph",
        tensors=[
            tensor("INT32", [1, 1], 0, name="tokens"),
            tensor("FLOAT32", [1, 4], 0, name="model/Linear_q_proj;1"),
            tensor("INT32", [2], 0, name="shape"),
            tensor("FLOAT32", [1, 1], 0, name="any", shapeSignature=[1, -1]),
            tensor("FLOAT32", [2, 2], 0, name="norm"),
            tensor("FLOAT32", [1, 7], 0, name="logits"),
        ],
        inputs=[0],
        outputs=[5],
        operators=[
            make("Operator", opcodeIndex=0, inputs=[0, -1], outputs=[1]),
            make("Operator", opcodeIndex=0, inputs=[1], outputs=[2, 3]),
            make(
                "Operator",
                opcodeIndex=1,
                inputs=[1, 3],
                outputs=[4],
                builtinOptions2Type=(
                    schema.BuiltinOptions2.StableHLOCompositeOptions
                ),
                builtinOptions2=make(
                    "StableHLOCompositeOptions",
                    name="odml.rms_norm",
                    decompositionSubgraphIndex=0,
                ),
            ),
            make("Operator", opcodeIndex=0, inputs=[4], outputs=[5]),
        ],
    )

  def signature(name: str, subgraph: int) -> Any:
    return make(
        "SignatureDef",
        signatureKey=name,
        subgraphIndex=subgraph,
        inputs=[make("TensorMap", name="tokens", tensorIndex=0)],
        outputs=[make("TensorMap", name="logits", tensorIndex=5)],
    )

  return make(
      "Model",
      version=3,
      operatorCodes=[
          make("OperatorCode", deprecatedBuiltinCode=ops.FULLY_CONNECTED),
          make(
              "OperatorCode",
              deprecatedBuiltinCode=127,
              builtinCode=ops.STABLEHLO_COMPOSITE,
          ),
      ],
      subgraphs=[graph(), graph()],
      buffers=[make("Buffer")],
      signatureDefs=[
          signature("decode", 0),
          signature("same", 0),
          signature("prefill", 1),
      ],
  )


def main() -> None:
  for name, content in (
      ("small.tflite", pack(small())),
      ("outside.tflite", pack(outside())),
      ("external.tflite", external()),
      ("taps.tflite", pack(taps())),
  ):
    (TESTDATA / name).write_bytes(content)


if __name__ == "__main__":
  main()
