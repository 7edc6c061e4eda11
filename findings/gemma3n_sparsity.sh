#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# litert-torch 0.10.0: sparse layers of Gemma 3n are exported with a cutoff that
# is whatever was in memory.
#
# config.json says activation_sparsity_pattern (0.95 in the first ten layers of
# E2B and E4B): what gate gives is cut off at so many standard deviations above
# its mean that this share of a normal distribution is below, 1.6449 for 0.95.
# The exporter's own MLP (model_ext/gemma3n/patch.py) keeps that number in a
# buffer, made with the module, that no checkpoint has. transformers 5 makes
# modules without memory and fills in what the checkpoint has.
#
# Seen (the factors of the two sparse layers; they differ from run to run, and a
# factor of 0 leaves no operator):
#   right: 1.6449 1.6449
#   exported: -13.9446
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 jinja2 \
  litert-torch==0.10.0 ai-edge-litert==2.3.0 ai-edge-quantizer==0.10.0

cd "$work"
"$work/venv/bin/python" - >log 2>&1 <<'P' || { cat seen; tail -20 log >&2; exit 1; }
import importlib.machinery
import pathlib
import statistics
import sys
import types

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

OPERATORS = {
    value: key
    for key, value in vars(schema.BuiltinOperator).items()
    if isinstance(value, int)
}
SHARES = [0.95, 0.95, 0.0]


def save(folder: pathlib.Path) -> None:
  torch.manual_seed(0)
  config = transformers.Gemma3nTextConfig(
      vocab_size=64, hidden_size=32, num_attention_heads=2,
      num_key_value_heads=1, head_dim=16, intermediate_size=48,
      num_hidden_layers=3, num_kv_shared_layers=0, sliding_window=16,
      activation_sparsity_pattern=SHARES, hidden_size_per_layer_input=8,
      vocab_size_per_layer_input=64, laurel_rank=4, max_position_embeddings=128,
      pad_token_id=0, bos_token_id=1, eos_token_id=2,
  )
  transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
  words = {f"w{i}": i for i in range(64)}
  model = tokenizers.models.WordLevel(words, unk_token="w3")
  transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizers.Tokenizer(model),
      unk_token="w3", pad_token="w0", bos_token="w1", eos_token="w2",
  ).save_pretrained(folder)


def factors(path: pathlib.Path) -> list[float]:
  """What the deviation of gate's output is multiplied with, in decode."""
  model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
  decode = next(s for s in model.signatureDefs if s.signatureKey == b"decode")
  graph = model.subgraphs[decode.subgraphIndex]
  kind = lambda op: OPERATORS[model.operatorCodes[op.opcodeIndex].builtinCode]
  roots = {op.outputs[0] for op in graph.operators if kind(op) == "SQRT"}
  found = []
  for op in graph.operators:
    if kind(op) != "MUL" or op.inputs[0] not in roots:
      continue
    data = model.buffers[graph.tensors[op.inputs[1]].buffer].data
    if data is not None and len(data) == 4:
      found.append(float(np.frombuffer(bytes(data), np.float32)[0]))
  return found


right = [statistics.NormalDist().inv_cdf(share) for share in SHARES if share]
folder, out = pathlib.Path("checkpoint"), pathlib.Path("out")
save(folder)
export.export(
    str(folder), str(out), prefill_lengths=[8], cache_length=32,
    quantization_recipe="none", bundle_litert_lm=False,
)
found = factors(next(out.rglob("*.tflite")))
with open("seen", "w") as seen:
  print("right:", *(f"{x:.4f}" for x in right), file=seen)
  print("exported:", *(f"{x:g}" for x in found), file=seen)
if len(found) == len(right) and np.allclose(found, right, rtol=1e-4):
  sys.exit("the cutoffs are right: this changed")
P
cat seen
