#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes testdata/vocab_merges.json: how transformers reads vocab.json.

A small byte-level BPE, trained here, stands as vocab.json and merges.txt beside
several configurations; each case has the ids that AutoTokenizer gives.
"""

import importlib.metadata
import json
import pathlib
import tempfile
from typing import Any

import text_samples
import tokenizers
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import trainers
import transformers

OUT = pathlib.Path(__file__).resolve().parent.parent / "testdata/vocab_merges.json"

LLAMA = {"model_type": "llama"}
END = "<|endoftext|>"


def _added(content: str, special: bool = True, **flags: Any) -> dict[str, Any]:
  return {
      "content": content,
      "lstrip": False,
      "normalized": False,
      "rstrip": False,
      "single_word": False,
      "special": special,
  } | flags


CASES: list[dict[str, Any]] = [
    {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"}},
    {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}},
    {"tokenizer_config.json": {"tokenizer_class": "GPT2TokenizerFast"}},
    {
        "tokenizer_config.json": {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": True,
            "add_bos_token": True,
            "add_eos_token": True,
            "bos_token": "<s>",
            "eos_token": {"__type": "AddedToken"} | _added("</s>"),
        }
    },
    # As the first Qwen 2 checkpoints.
    {
        "config.json": {"model_type": "qwen2"},
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "add_prefix_space": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": END,
            "unk_token": None,
            "added_tokens_decoder": {
                "400": _added(END),
                "401": _added("<|im_start|>"),
                "402": _added("<|im_end|>"),
                "403": _added("<tool_call>", special=False),
                "404": _added("<lower>", special=False, normalized=True),
                "405": _added("<left>", lstrip=True, rstrip=True),
            },
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        },
    },
    # A class that transformers does not believe for this type.
    {
        "config.json": {"model_type": "qwen2"},
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"},
    },
    # Older checkpoints: special and added tokens in files of their own.
    {
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"},
        "special_tokens_map.json": {
            "bos_token": "<|im_start|>",
            "eos_token": _added("<|im_end|>"),
            "additional_special_tokens": ["<extra>"],
        },
        "added_tokens.json": {"<|im_start|>": 401, "<tool_call>": 400},
    },
    {
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "image_token": END,
            "mask_token": "<mask>",
            "extra_special_tokens": {"audio_token": "<audio>"},
        }
    },
]

TEXTS = [
    "",
    "Hello, world!",
    " leading and trailing ",
    "two  spaces,   three\n\n\n and lines\r\n\tend \n",
    "1 12 123 1234 3.14159",
    "don't you're I'll THEY'VE O'Neil's",
    "naïve café A\u030angström e\u0301 \ufb01",
    "Привет, мир! 你好，世界。 🙂 👩‍👩‍👧",
    "<s>a</s> <s> b </s>",
    f"x {END} y{END}",
    "<|im_start|>user\nHi<|im_end|>\n<tool_call> <tool_call>x <lower> <left> y",
    "<image><mask> <audio>text<extra>",
]


def _train() -> dict[str, Any]:
  trained = tokenizers.Tokenizer(models.BPE())
  trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  trainer = trainers.BpeTrainer(
      vocab_size=400,
      special_tokens=[END],
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
  )
  trained.train_from_iterator(text_samples.samples() * 2, trainer)
  model: dict[str, Any] = json.loads(trained.to_str())["model"]
  return model


def _write(directory: pathlib.Path, files: dict[str, Any], model: dict[str, Any]) -> None:
  for name, content in ({"config.json": LLAMA} | files).items():
    (directory / name).write_text(json.dumps(content))
  (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
  merges = "".join(" ".join(pair) + "\n" for pair in model["merges"])
  (directory / "merges.txt").write_text("#version: 0.2\n" + merges)


def _read(directory: pathlib.Path) -> dict[str, Any]:
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
  encode = tokenizer.encode
  plain = [encode(text, add_special_tokens=False) for text in TEXTS]
  return {
      "class": type(tokenizer).__name__,
      "size": len(tokenizer),
      "ids": plain,
      "ids_with_special": [encode(text) for text in TEXTS],
      "decoded": [
          tokenizer.decode(ids, skip_special_tokens=True) for ids in plain
      ],
  }


def main() -> None:
  model = _train()
  cases = []
  for files in CASES:
    with tempfile.TemporaryDirectory() as made:
      directory = pathlib.Path(made)
      _write(directory, files, model)
      cases.append({"files": {"config.json": LLAMA} | files} | _read(directory))
  found = {
      "transformers": importlib.metadata.version("transformers"),
      "vocab": model["vocab"],
      "merges": [" ".join(pair) for pair in model["merges"]],
      "texts": TEXTS,
      "cases": cases,
  }
  text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
  OUT.write_text(text.replace('{"files"', '\n{"files"') + "\n", encoding="utf-8")


if __name__ == "__main__":
  main()
