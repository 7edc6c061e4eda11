#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# litert-torch 0.10.0: a converted LFM2 knows its pads by their token, whatever
# the mask says, and the file names that token nowhere.
#
# A prompt that is shorter than its prefill signature is filled up with pads.
# Attention leaves out what the mask input leaves out, so that any token will do.
# Short convolutions leave out what is not equal to the checkpoint's
# pad_token_id, a constant inside the graph: another pad enters their state, and
# all that follows is another text. No input, name or metadata of the .tflite
# tells which token it is.
#
# Seen (the largest difference of decode's logits, whose deviation is 1.7, from
# those after the same prompt fed token by token):
#   padded with token 0: 6.1
#   padded with the checkpoint's pad_token_id: 9.5e-07
#   the file says: nothing
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# transformers 5.24 has renamed an argument that this exporter gives.
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.14.1 jinja2 \
  litert-torch==0.10.0 ai-edge-litert==2.3.0 ai-edge-quantizer==0.10.0

cd "$work"
"$work/venv/bin/python" - >log 2>&1 <<'P' || { cat seen; tail -20 log >&2; exit 1; }
import importlib.machinery
import pathlib
import sys
import types

from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema

# Imported by the exporter, not used, and 600 MB.
name = ""
for part in ("tensorflow", "lite", "python"):
  name = f"{name}.{part}".lstrip(".")
  stub = types.ModuleType(name)
  stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
  stub.__path__ = []
  sys.modules[name] = stub
stub.schema_py_generated = schema

from litert_torch.generative.export_hf import export
import numpy as np
import tokenizers
import torch
import transformers

PAD = 2
PROMPT = [10, 11, 12, 13, 14, 15]  # the last is decode's
PREFILL = 8


def save(folder: pathlib.Path) -> None:
  torch.manual_seed(0)
  config = transformers.Lfm2Config(
      vocab_size=64, hidden_size=32, num_attention_heads=2,
      num_key_value_heads=1, intermediate_size=48, num_hidden_layers=3,
      layer_types=["conv", "full_attention", "conv"], conv_L_cache=3,
      block_auto_adjust_ff_dim=False, max_position_embeddings=128,
      pad_token_id=PAD, bos_token_id=1, eos_token_id=3,
  )
  model = transformers.AutoModelForCausalLM.from_config(config)
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.dim() > 1:
        parameter.copy_(torch.randn(parameter.shape) * 0.3)
  model.save_pretrained(folder)
  words = {f"w{i}": i for i in range(64)}
  made = tokenizers.models.WordLevel(words, unk_token="w4")
  transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizers.Tokenizer(made), unk_token="w4",
      pad_token=f"w{PAD}", bos_token="w1", eos_token="w3",
  ).save_pretrained(folder)


class Session:
  """Runs the file as LiteRT-LM does: caches zeroed, then carried on."""

  def __init__(self, path: pathlib.Path):
    runtime = interpreter.Interpreter(str(path))
    self.runners = {
        key: runtime.get_signature_runner(key)
        for key in (f"prefill_{PREFILL}", "decode")
    }
    self.caches = {
        key: np.zeros(found["shape"], found["dtype"])
        for key, found in self.runners["decode"].get_input_details().items()
        if key.startswith("kv_cache_")
    }

  def run(self, key: str, tokens: list[int], begin: int) -> np.ndarray | None:
    runner = self.runners[key]
    shape = runner.get_input_details()["mask"]["shape"]
    positions = np.arange(begin, begin + len(tokens), dtype=np.int32)
    seen = np.arange(shape[-1])[None, :] <= positions[:, None]
    result = runner(
        tokens=np.array([tokens], np.int32), input_pos=positions,
        mask=np.where(seen, 0, -1e9).astype(np.float32).reshape(shape),
        **self.caches,
    )
    self.caches = {key: result[key] for key in self.caches}
    return result.get("logits")


def after_padded(path: pathlib.Path, pad: int) -> np.ndarray:
  session = Session(path)
  fed = PROMPT[:-1]
  session.run(f"prefill_{PREFILL}", fed + [pad] * (PREFILL - len(fed)), 0)
  return session.run("decode", PROMPT[-1:], len(fed))


def token_by_token(path: pathlib.Path) -> np.ndarray:
  session = Session(path)
  for at, token in enumerate(PROMPT):
    logits = session.run("decode", [token], at)
  return logits


folder, out = pathlib.Path("checkpoint"), pathlib.Path("out")
save(folder)
export.export(
    str(folder), str(out), prefill_lengths=[PREFILL], cache_length=32,
    quantization_recipe="none", bundle_litert_lm=False,
)
path = next(out.rglob("*.tflite"))
model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
said = [m.name for m in model.metadata or [] if b"pad" in m.name]
said += [e.name for s in model.signatureDefs for e in s.inputs if b"pad" in e.name]
right = token_by_token(path)
off = {pad: float(np.abs(after_padded(path, pad) - right).max()) for pad in (0, PAD)}
with open("seen", "w") as seen:
  print(f"(logits' deviation: {right.std():.2g})", file=seen)
  print(f"padded with token 0: {off[0]:.2g}", file=seen)
  print(f"padded with the checkpoint's pad_token_id: {off[PAD]:.2g}", file=seen)
  print("the file says:", said or "nothing", file=seen)
if off[0] < 0.01 or off[PAD] > 1e-4 or said:
  sys.exit("pads do otherwise than they did: this changed")
P
cat seen
