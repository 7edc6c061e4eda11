#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes testdata/small.task: a .task as MediaPipe's bundler writes it.

The models in it are a few bytes that no runtime would load. Its METADATA is
encoded by the protobuf library by LlmParameters' own descriptor, as it is found
in liblitert-lm.so: no package that can be had has the Python classes. What is in
it stands in src/tflite/task_bundle_test.cc.
"""

import importlib.util
import pathlib
from typing import Any

import containers
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory

OUT = pathlib.Path(__file__).resolve().parent.parent / "testdata/small.task"
PACKAGE = "third_party/odml/infra/genai/inference/proto/"
FILES = ("prompt_template", "transformer_params", "llm_params")


def _descriptor(library: bytes, name: str) -> Any:
  """The FileDescriptorProto that begins with this name."""
  path = f"{PACKAGE}{name}.proto".encode()
  begin = library.find(b"\n" + bytes([len(path)]) + path)
  assert begin >= 0, name
  at = begin
  found = None

  def varint(at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
      byte = library[at]
      value |= (byte & 127) << shift
      at, shift = at + 1, shift + 7
      if byte < 128:
        return value, at

  # Where the message ends is not said: as long as fields follow it goes on.
  while True:
    tag, body = varint(at)
    if tag & 7 != 2 or not 1 <= tag >> 3 <= 14:
      return found
    size, body = varint(body)
    parsed = descriptor_pb2.FileDescriptorProto()
    try:
      parsed.ParseFromString(library[begin : body + size])
    except Exception:  # the last one was none
      return found
    at, found = body + size, parsed


def _llm_parameters() -> Any:
  spec = importlib.util.find_spec("litert_lm")
  assert spec is not None and spec.submodule_search_locations
  root = spec.submodule_search_locations[0]
  library = (pathlib.Path(root) / "liblitert-lm.so").read_bytes()
  pool = descriptor_pool.DescriptorPool()
  for name in FILES:
    proto = _descriptor(library, name)
    kept = [d for d in proto.dependency if any(f"/{f}." in d for f in FILES)]
    proto.ClearField("dependency")
    proto.dependency.extend(kept)
    for message in proto.message_type:
      for field in message.field:
        # Of files that are not taken.
        if any(w in field.type_name for w in ("AudioEncoder", "VisionEncoder")):
          field.type = field.TYPE_BYTES
          field.ClearField("type_name")
    pool.Add(proto)
  return message_factory.GetMessageClass(
      pool.FindMessageTypeByName("odml.infra.proto.LlmParameters")
  )


def main() -> None:
  params = _llm_parameters()()
  params.transformer_parameters.max_seq_length = 1280
  params.transformer_parameters.num_heads = 4
  params.vocab_size = 1000
  params.start_token = "<bos>"
  params.stop_tokens.extend(["<eos>", "<end_of_turn>"])
  params.stop_token_ids.extend([1, 300])
  params.input_output_normalizations.append(1)
  params.prompt_template.session_prefix = "Be brief. ü"
  params.prompt_template.prompt_prefix = "<user>"
  params.prompt_template.prompt_suffix = "</user><model>"
  params.prompt_templates.user_template.prompt_prefix = "<user>"
  params.prompt_templates.user_template.prompt_suffix = "</user>"
  params.prompt_templates.model_template.prompt_prefix = "<model>"
  params.prompt_templates.system_template.prompt_suffix = "</system>"
  params.num_draft_tokens = 3
  params.user_role_token = "user"
  containers.write_task(
      OUT,
      {
          "TF_LITE_PREFILL_DECODE": b"\x10\0\0\0TFL3 model",
          "TOKENIZER_MODEL": b"\n\x05\n\x03abc",
          "METADATA": params.SerializeToString(),
          "TF_LITE_EMBEDDER": b"\x10\0\0\0TFL3 embedder",
          "notes.txt": b"hello",
      },
  )


if __name__ == "__main__":
  main()
