"""Records which keys of config.json transformers ignores for a family.

  ignored_keys.py > testdata/ignored_keys.json

For each family and key: whether the logits of a random model change when the
key is set, in one forward pass ("forward") and token by token with a KV cache
("cache"), or that such a model cannot be made or run ("error").
model_config_test.cc expects that the reference refuses what changes a forward
pass and passes over the rest with a note.
"""

import json
from typing import Any
import warnings

import torch
import transformers

# A value under which the key acts where it is read.
KEYS = {
    "attention_bias": True,
    "mlp_bias": True,
    "partial_rotary_factor": 0.25,
    "sliding_window": 8,
    "sliding_window_pattern": 1,
    "rope_local_base_freq": 100.0,
    "attention_chunk_size": 8,
    "no_rope_layers": [0, 0],
    "use_bidirectional_attention": True,
    "use_qk_norm": True,
    "qk_norm": True,
    "qk_layernorm": True,
    "attn_logit_softcapping": 0.5,
    "final_logit_softcapping": 0.5,
    "query_pre_attn_scalar": 3,
    "clip_qkv": 0.01,
    "alibi": True,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 3.0,
    "attention_multiplier": 3.0,
    "logits_scaling": 3.0,
    "logit_scale": 3.0,
    "num_experts": 4,
    "num_local_experts": 4,
    "parallel_attn": False,
    "is_causal": False,
    # Of rope_parameters.
    "rope.partial_rotary_factor": 0.25,
    "rope.mrope_section": [1],
}
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2",
            "gemma3_text", "phi3", "smollm3", "phi", "falcon", "granite",
            "olmo2", "ministral", "ministral3", "exaone4", "hunyuan_v1_dense",
            "seed_oss", "starcoder2", "glm", "glm4", "cohere", "cohere2",
            "ernie4_5", "helium", "olmo", "olmo3", "arcee", "apertus",
            "vaultgemma", "nanochat", "bitnet", "jais2", "hyperclovax",
            "exaone", "internlm3", "iquestcoder", "gemma3n_text", "qwen2_moe",
            "qwen3_moe", "mixtral", "olmoe", "granitemoe", "granitemoeshared",
            "ernie4_5_moe", "glm4_moe", "lfm2"]
SIZES = dict(
    vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    max_position_embeddings=512, pad_token_id=0, bos_token_id=1,
    eos_token_id=2)
# Of a mixture of experts, whatever a family calls them.
EXPERTS = dict(
    moe_intermediate_size=16, shared_expert_intermediate_size=16,
    shared_intermediate_size=16, num_experts=6, num_local_experts=6,
    n_routed_experts=6, moe_num_experts=6, num_experts_per_tok=2, moe_k=2)
TOLERANCE = 1e-4


def make(family: str, seed: int, **more: Any) -> Any:
  sizes: dict[str, Any] = dict(SIZES)
  if family == "gemma3n_text":
    sizes["num_kv_shared_layers"] = 0
  if family == "falcon":
    sizes.pop("head_dim")
  if family == "lfm2":
    sizes["full_attn_idxs"] = [1]
  known = type(transformers.AutoConfig.for_model(family))().to_dict()
  sizes.update({k: v for k, v in EXPERTS.items() if k in known})
  rope = {k[5:]: v for k, v in more.items() if k.startswith("rope.")}
  if rope:
    more = {"rope_parameters": {"rope_type": "default", **rope}}
  config = transformers.AutoConfig.for_model(family, **{**sizes, **more})
  config._attn_implementation = "eager"
  torch.manual_seed(seed)
  model = transformers.AutoModelForCausalLM.from_config(config).eval()
  with torch.no_grad():
    for name, value in sorted(model.named_parameters()):
      torch.manual_seed(sum(map(ord, name)) + seed)
      value.copy_(torch.randn(value.shape) * 0.2)
  return model


def run(model: Any, ids: Any) -> Any:
  with torch.no_grad():
    forward = model(ids).logits
    cached, cache = [], None
    for i in range(ids.shape[1]):
      out = model(ids[:, i:i + 1], past_key_values=cache, use_cache=True)
      cache = out.past_key_values
      cached.append(out.logits)
    return forward, torch.cat(cached, 1)


def main() -> None:
  warnings.simplefilter("ignore")
  transformers.logging.set_verbosity_error()
  torch.manual_seed(0)
  ids = torch.randint(3, 100, (1, 40))
  result: dict[str, Any] = {}
  for family in FAMILIES:
    plain = run(make(family, 1), ids)
    row = result[family] = {}
    for key, value in KEYS.items():
      # These have a dictionary for each kind of layer, or another RoPE than
      # the default one where there is none.
      if key.startswith("rope.") and family in (
          "gemma3_text", "gemma3n_text", "olmo3", "ministral3", "apertus"):
        continue
      try:
        forward, cached = run(make(family, 1, **{key: value}), ids)
      except Exception as e:  # pylint: disable=broad-except
        row[key] = {"value": value, "error": type(e).__name__}
        continue
      row[key] = {
          "value": value,
          "forward": bool((forward - plain[0]).abs().max() > TOLERANCE),
          "cache": bool((cached - plain[1]).abs().max() > TOLERANCE),
      }
  print(json.dumps({"transformers": transformers.__version__,
                    "families": result}, indent=1))


if __name__ == "__main__":
  main()
