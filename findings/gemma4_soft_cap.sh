#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# litert-torch 0.10.0: Gemma 4 with per-layer embeddings (as E2B and E4B) is
# exported without the soft cap of its logits.
#
# config.json says final_logit_softcapping, and transformers computes
# cap * tanh(logits / cap). The exporter's own module for these models ends with
# the head's product. The cap is monotone, so greedy text is the same, and no
# trial of the file shows it; probabilities are others. Gemma 4 without per-layer
# embeddings keeps the cap.
#
# Seen (what gives decode's logits, with a cap of 1 in config.json):
#   without per-layer embeddings: TANH
#   with per-layer embeddings: FULLY_CONNECTED
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
import tokenizers
import torch
import transformers

OPERATORS = {
    value: key
    for key, value in vars(schema.BuiltinOperator).items()
    if isinstance(value, int)
}


def save(folder: pathlib.Path, per_layer: int) -> None:
  torch.manual_seed(0)
  sliding, full = "sliding_attention", "full_attention"
  text = dict(
      vocab_size=64, hidden_size=32, num_attention_heads=2, num_key_value_heads=1,
      intermediate_size=32, num_hidden_layers=2, head_dim=16, global_head_dim=16,
      layer_types=[sliding, full], sliding_window=16, final_logit_softcapping=1.0,
      hidden_size_per_layer_input=per_layer, vocab_size_per_layer_input=64,
      num_kv_shared_layers=0, max_position_embeddings=128, pad_token_id=0,
      bos_token_id=1, eos_token_id=2,
  )
  vision = dict(
      hidden_size=32, intermediate_size=32, num_hidden_layers=1,
      num_attention_heads=2, num_key_value_heads=2, head_dim=16, patch_size=4,
      position_embedding_size=16, pooling_kernel_size=2,
  )
  config = transformers.Gemma4Config(
      text_config=text, vision_config=vision, vocab_size=64
  )
  transformers.AutoModelForCausalLM.from_config(config).eval().save_pretrained(folder)
  words = {f"w{i}": i for i in range(64)}
  model = tokenizers.models.WordLevel(words, unk_token="w3")
  transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizers.Tokenizer(model),
      unk_token="w3", pad_token="w0", bos_token="w1", eos_token="w2",
  ).save_pretrained(folder)


def ends_with(path: pathlib.Path) -> list[str]:
  """Operators that give decode's logits, back to the last product."""
  model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
  decode = next(s for s in model.signatureDefs if s.signatureKey == b"decode")
  graph = model.subgraphs[decode.subgraphIndex]
  tensor = next(o.tensorIndex for o in decode.outputs if o.name == b"logits")
  found: list[str] = []
  while not found or found[-1] != "FULLY_CONNECTED":
    op = next(o for o in graph.operators if tensor in list(o.outputs))
    found.append(OPERATORS[model.operatorCodes[op.opcodeIndex].builtinCode])
    tensor = op.inputs[0]
  return found


caps = {}
for title, per_layer in (("without", 0), ("with", 8)):
  folder, out = pathlib.Path(f"{title}_checkpoint"), pathlib.Path(title)
  save(folder, per_layer)
  export.export(
      str(folder), str(out), prefill_lengths=[8], cache_length=32,
      quantization_recipe="none", bundle_litert_lm=False,
      externalize_embedder=True,
  )
  found = ends_with(next(out.rglob("model.tflite")))
  caps[title] = "TANH" in found
  with open("seen", "a") as seen:
    print(f"{title} per-layer embeddings: {found[0]}", file=seen)
if caps != {"without": True, "with": False}:
  sys.exit("which of the two has a soft cap: this changed")
P
cat seen
