# SPDX-License-Identifier: Apache-2.0
"""A tokenizer.model, and what Python makes of it."""

import json
import pathlib

import work

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
ADDED = {"<|user|>": 32000, "<|assistant|>": 32001}


def llama2(out: pathlib.Path, legacy: bool, squeeze: bool) -> None:
  """Llama 2's vocabulary from the llama.cpp sources, with two added tokens."""
  import gguf
  from sentencepiece import sentencepiece_model_pb2 as pb

  path = work.cache_dir() / "llama.cpp/models/ggml-vocab-llama-spm.gguf"
  fields = gguf.GGUFReader(path).fields

  def read(name):
    field = fields[f"tokenizer.ggml.{name}"]
    return [field.parts[index] for index in field.data]

  model = pb.ModelProto()
  # GGUF counts the types of pieces as SentencePiece does.
  for text, score, kind in zip(
      read("tokens"), read("scores"), read("token_type"), strict=True
  ):
    model.pieces.add(
        piece=bytes(text).decode(), score=float(score[0]), type=int(kind[0])
    )
  model.trainer_spec.model_type = pb.TrainerSpec.BPE
  model.trainer_spec.vocab_size = len(model.pieces)
  model.trainer_spec.byte_fallback = True
  model.trainer_spec.pad_id = -1
  model.normalizer_spec.name = "identity"
  model.normalizer_spec.add_dummy_prefix = True
  model.normalizer_spec.remove_extra_whitespaces = squeeze
  (out / "tokenizer.model").write_bytes(model.SerializeToString())
  config = {
      "tokenizer_class": "LlamaTokenizer",
      "legacy": legacy,
      "add_bos_token": True,
      **SPECIAL,
      "added_tokens_decoder": {
          str(id): {
              "content": token,
              "lstrip": False,
              "rstrip": False,
              "normalized": False,
              "single_word": False,
              "special": True,
          }
          for token, id in ADDED.items()
      },
  }
  (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def samples(directory: pathlib.Path, texts: list[str]) -> list[dict]:
  """Token ids by transformers' SentencePiece tokenizer written in Python."""
  import transformers
  from transformers.tokenization_utils_sentencepiece import (
      SentencePieceBackend,
  )

  config = json.loads((directory / "tokenizer_config.json").read_text())
  tokenizer = SentencePieceBackend(
      vocab_file=str(directory / "tokenizer.model"),
      legacy=config["legacy"],
      **SPECIAL,
  )
  tokenizer.add_tokens(
      [
          transformers.AddedToken(token, special=True, normalized=False)
          for token in ADDED
      ],
      special_tokens=True,
  )

  def encode(text):
    # LlamaTokenizer.tokenize of transformers 4, which 5 has no more.
    if not config["legacy"] and text:
      tokens = tokenizer.tokenize("▁" + text.replace("▁", " "))
      if len(tokens) > 1 and tokens[0] == "▁":
        if tokens[1] in [*SPECIAL.values(), *ADDED]:
          tokens = tokens[1:]
    else:
      tokens = tokenizer.tokenize(text)
    return tokenizer.convert_tokens_to_ids(tokens)

  return [{"text": text, "ids": encode(text)} for text in texts]
