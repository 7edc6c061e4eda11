#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes testdata/sources.json: which of a checkpoint's files transformers uses.

Each case is the files of a checkpoint beside its tokenizer.json, and the EOS
tokens and the chat template that transformers takes from them.
"""

import json
import pathlib
import tempfile
from typing import Any

import tokenizers
import transformers
from transformers import processing_utils

OUT = pathlib.Path(__file__).resolve().parent.parent / "testdata/sources.json"

GENERATION = "generation_config.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer_config.json"
PROCESSOR = "processor_config.json"
JINJA = "chat_template.jinja"
LEGACY = "chat_template.json"
ADDITIONAL = "additional_chat_templates/"

EOS_CASES: list[dict[str, Any]] = [
    {CONFIG: {"text_config": {"eos_token_id": [1, 3]}}},
    {CONFIG: {"eos_token_id": 2, "text_config": {"eos_token_id": [1, 3]}}},
    {CONFIG: {"eos_token_id": None, "text_config": {"eos_token_id": 3}}},
    {CONFIG: {"text_config": {"eos_token_id": None}}},
    {CONFIG: {"decoder": {"eos_token_id": 2},
              "text_config": {"eos_token_id": 3}}},
    {CONFIG: {"decoder": {"x": 1}, "text_config": {"eos_token_id": 3}}},
    {CONFIG: {"decoder": {}, "text_config": {"eos_token_id": 3}}},
    {CONFIG: {"vision_config": {"eos_token_id": 3}}},
    {GENERATION: {"eos_token_id": 1},
     CONFIG: {"text_config": {"eos_token_id": 3}}},
]

TEMPLATE_CASES: list[dict[str, Any]] = [
    {},
    {TOKENIZER: {"chat_template": "tokenizer"}},
    {TOKENIZER: {"chat_template": "tokenizer"}, JINJA: "jinja"},
    {TOKENIZER: {"chat_template": "tokenizer"},
     LEGACY: {"chat_template": "legacy"}},
    {TOKENIZER: {"chat_template": "tokenizer"},
     PROCESSOR: {"chat_template": "processor"}},
    {TOKENIZER: {"chat_template": [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "of the list"}]}},
    {TOKENIZER: {"chat_template": "tokenizer"}, JINJA: "jinja",
     ADDITIONAL + "tool_use.jinja": "tools"},
    {JINJA: "jinja", ADDITIONAL + "default.jinja": "additional"},
    {ADDITIONAL + "default.jinja": "additional"},
    {TOKENIZER: {"chat_template": "tokenizer"},
     ADDITIONAL + "tool_use.jinja": "tools"},
    {TOKENIZER: {"chat_template": "tokenizer"},
     ADDITIONAL + "readme.txt": "no template"},
    {LEGACY: {"chat_template": "legacy"}},
    {LEGACY: {"chat_template": "legacy"},
     PROCESSOR: {"chat_template": "processor"}},
    {LEGACY: {"chat_template": "legacy"}, PROCESSOR: {"processor_class": "X"}},
    {LEGACY: {"chat_template": "legacy"}, JINJA: "jinja"},
]


def _write(directory: pathlib.Path, files: dict[str, Any]) -> None:
  """A tokenizer.json of four tokens and `files`."""
  model = tokenizers.models.BPE(
      {"<unk>": 0, "a": 1, "b": 2, "ab": 3}, [("a", "b")], unk_token="<unk>"
  )
  tokenizers.Tokenizer(model).save(str(directory / "tokenizer.json"))
  for name, content in files.items():
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text)


def _eos(directory: pathlib.Path) -> Any:
  """As GenerationMixin.adjust_generation_fn loads it."""
  load = transformers.GenerationConfig.from_pretrained
  try:
    found = load(directory).eos_token_id
  except OSError:
    found = load(
        directory, config_file_name=CONFIG, _from_model_config=True
    ).eos_token_id
  if found is None:
    return []
  return sorted(found) if isinstance(found, list) else [found]


def _template(directory: pathlib.Path) -> dict[str, Any]:
  """The tokenizer's template; if there is none, the processor's."""
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(directory)
  if tokenizer.chat_template is None:
    found, _ = processing_utils.ProcessorMixin.get_processor_dict(directory)
    return {"template": found.get("chat_template")}
  try:
    return {"template": tokenizer.get_chat_template()}
  except ValueError as e:
    return {"error": str(e).split(".")[0]}


def main() -> None:
  cases = []
  for files in EOS_CASES + TEMPLATE_CASES:
    with tempfile.TemporaryDirectory() as made:
      directory = pathlib.Path(made)
      _write(directory, files)
      is_eos = files in EOS_CASES
      expected = {"eos": _eos(directory)} if is_eos else _template(directory)
    cases.append({"files": files} | expected)
  OUT.write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
  main()
