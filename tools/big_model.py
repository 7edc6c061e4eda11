#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a model of TinyLlama-1.1B's size, to measure time and memory with.

    ~/.cache/verify_tflite/venv/bin/python tools/big_model.py OUTPUT_DIRECTORY

A checkpoint of random weights in bfloat16 (OUTPUT_DIRECTORY/tiny_llama, 2.2 GB)
and its int8 conversion by the classic converter
(OUTPUT_DIRECTORY/tiny_llama_q8.tflite, 1.1 GB). The text it writes is nonsense,
so it says nothing about what int8 costs; how long a run takes does not depend
on that. The tokenizer is llama2_tokenizer of make_models.py, which is made if
it is not there.

The converter's lightweight mode takes a third of the memory that
tools/litert_torch_example.py needs. What is there is not made again.
"""

import argparse
from collections.abc import Callable
import functools
import os
import pathlib
import shutil
import subprocess
import sys

import conversions
import work

_TOKENIZER = "llama2_tokenizer"
_PREFILL = [8, 64, 256]
_CACHE = 1280


def _checkpoint(out: pathlib.Path, tokenizer: pathlib.Path) -> None:
  """TinyLlama/TinyLlama-1.1B-Chat-v1.0 but for its weights."""
  import torch
  import transformers

  config = transformers.LlamaConfig(
      vocab_size=32000,
      hidden_size=2048,
      intermediate_size=5632,
      num_hidden_layers=22,
      num_attention_heads=32,
      num_key_value_heads=4,
      max_position_embeddings=2048,
      rms_norm_eps=1e-5,
      rope_theta=10000.0,
      tie_word_embeddings=False,
      bos_token_id=1,
      eos_token_id=2,
      dtype="bfloat16",
  )
  torch.manual_seed(0)
  torch.set_default_dtype(torch.bfloat16)
  model = transformers.LlamaForCausalLM(config)
  # Logits as far apart as a trained model's: else every choice is a tie.
  model.lm_head.weight.data.mul_(4)
  model.save_pretrained(out)
  for path in tokenizer.glob("*token*"):
    shutil.copy(path, out)


def _float_file(out: pathlib.Path, checkpoint: pathlib.Path) -> None:
  conversions.stub_tensorflow()
  from litert_torch._convert import interface

  # The converter of generative models has no option for it.
  interface.Converter.convert = functools.partialmethod(
      interface.Converter.convert, lightweight_conversion=True
  )
  conversions.classic(out, checkpoint, _PREFILL, _CACHE)


def _quantized_file(
    out: pathlib.Path, checkpoint: pathlib.Path, float_file: pathlib.Path
) -> None:
  conversions.quantize(out, checkpoint, float_file, "dynamic_int8")


def _tokenizer() -> pathlib.Path:
  models = work.cache_dir() / "models"
  script = pathlib.Path(__file__).with_name("make_models.py")
  subprocess.run([sys.executable, str(script), _TOKENIZER], check=True)
  return models / _TOKENIZER


def _make(step: str, out: pathlib.Path) -> None:
  checkpoint = out / "tiny_llama"
  float_file = out / "tiny_llama_f32.tflite"
  quantized = out / "tiny_llama_q8.tflite"
  steps: dict[str, tuple[pathlib.Path, Callable[[pathlib.Path], None]]] = {
      "checkpoint": (checkpoint, lambda to: _checkpoint(to, _tokenizer())),
      "float": (float_file, lambda to: _float_file(to, checkpoint)),
      "int8": (
          quantized,
          lambda to: _quantized_file(to, checkpoint, float_file),
      ),
  }
  target, make = steps[step]
  if target.exists():
    return
  partial = target.with_name(target.name + ".part")
  make(partial)
  partial.rename(target)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("output_directory", type=pathlib.Path)
  parser.add_argument(
      "--step", choices=("checkpoint", "float", "int8"), help=argparse.SUPPRESS
  )
  parser.add_argument(
      "--keep_float",
      action="store_true",
      help="keep the float32 file (4.4 GB) that the int8 one is made from",
  )
  args = parser.parse_args()
  out = args.output_directory
  out.mkdir(parents=True, exist_ok=True)
  if args.step:
    _make(args.step, out)
    return
  if not (out / "tiny_llama_q8.tflite").exists():
    # Every step in a process of its own: they keep gigabytes of memory.
    for step in ("checkpoint", "float", "int8"):
      print(f"{step} …", flush=True)
      command = [sys.executable, __file__, str(out), "--step", step]
      subprocess.run(command, check=True, env=os.environ)
  if not args.keep_float:
    (out / "tiny_llama_f32.tflite").unlink(missing_ok=True)


if __name__ == "__main__":
  main()
