#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes testdata/small.litertlm and .json: a bundle made by litert_lm_builder.

The models in it are a few bytes that no runtime would load. The expectations
are what the builder's own schema classes read back.
"""

from collections.abc import Callable
import json
import pathlib
import tempfile
from typing import Any

import litert_lm_builder
from litert_lm_builder import litertlm_peek
from litert_lm_builder.runtime.proto import llm_metadata_pb2

TESTDATA = pathlib.Path(__file__).resolve().parent.parent / "testdata"
TOKENIZER = json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}}}).encode()


def _metadata() -> llm_metadata_pb2.LlmMetadata:
  metadata = llm_metadata_pb2.LlmMetadata(max_num_tokens=1280)
  metadata.start_token.token_str = "<s>"
  metadata.stop_tokens.add().token_ids.ids.extend([1, 300, 70000])
  metadata.stop_tokens.add().token_str = "</s>"
  for role in ("user", "model", "system"):
    affixes = getattr(metadata.prompt_templates, role)
    affixes.prefix, affixes.suffix = f"<{role}>", f"</{role}>\n"
  metadata.sampler_params.k = 40
  metadata.sampler_params.temperature = 0.5
  metadata.llm_model_type.gemma3.SetInParent()
  metadata.jinja_prompt_template = "{{ messages[0].content }} ü"
  return metadata


def _build(work: pathlib.Path, out: pathlib.Path) -> None:
  def write(name: str, content: bytes) -> str:
    (work / name).write_bytes(content)
    return str(work / name)

  item = litert_lm_builder.Metadata
  dtype = litert_lm_builder.DType
  kind = litert_lm_builder.TfLiteModelType
  builder = litert_lm_builder.LitertLmFileBuilder()
  builder.add_system_metadata(item("Authors", "verify_tflite", dtype.STRING))
  builder.add_system_metadata(item("int", -5, dtype.INT32))
  builder.add_system_metadata(item("flag", True, dtype.BOOL))
  builder.add_system_metadata(item("double", 0.5, dtype.DOUBLE))
  builder.add_llm_metadata(
      write("metadata.pb", _metadata().SerializeToString())
  )
  builder.add_hf_tokenizer(write("tokenizer.json", TOKENIZER))
  builder.add_tflite_model(
      write("model.tflite", b"\x10\0\0\0TFL3 model"),
      kind.PREFILL_DECODE,
      backend_constraint="cpu",
  )
  builder.add_tflite_model(
      write("embedder.tflite", b"\x10\0\0\0TFL3 embedder"), kind.EMBEDDER
  )
  builder.add_sentencepiece_tokenizer(
      write("embedder.model", b"\n\x05\n\x03abc"), kind.EMBEDDER
  )
  with open(out, "wb") as stream:
    builder.build(stream)


def _text(value: Any) -> str:
  if isinstance(value, bool):
    return str(value).lower()
  return str(value)


def _read(path: pathlib.Path) -> dict[str, Any]:
  with open("/dev/null", "w") as nowhere:
    header = litertlm_peek.read_litertlm_header(str(path), nowhere)
  content = path.read_bytes()

  def items(count: int, get: Callable[[int], Any]) -> list[Any]:
    pairs = []
    for i in range(count):
      value, _ = litertlm_peek._get_kvp_value_and_type(get(i))
      pairs.append([get(i).Key().decode(), _text(value)])
    return pairs

  system = header.SystemMetadata()
  sections = header.SectionMetadata()
  found = []
  for i in range(sections.ObjectsLength()):
    section = sections.Objects(i)
    begin, end = section.BeginOffset(), section.EndOffset()
    found.append({
        "type": section.DataType(),
        "begin": begin,
        "end": end,
        "items": items(section.ItemsLength(), section.Items),
        "bytes": content[begin:end].hex(),
    })
  return {
      "system": items(system.EntriesLength(), system.Entries),
      "sections": found,
      "tokenizer": TOKENIZER.decode(),
  }


def main() -> None:
  out = TESTDATA / "small.litertlm"
  with tempfile.TemporaryDirectory() as work:
    _build(pathlib.Path(work), out)
  expected = json.dumps(_read(out), indent=1, ensure_ascii=False)
  out.with_suffix(".json").write_text(expected + "\n")


if __name__ == "__main__":
  main()
