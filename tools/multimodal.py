# SPDX-License-Identifier: Apache-2.0
"""Small random models of images and text, each around a text model.

Their towers are as small as their classes allow; no test looks at them.
"""

import pathlib
from typing import Any

_TEXT: dict[str, Any] = dict(
    vocab_size=1000,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
# Of tokens that stand for images: no text has these.
IMAGE_TOKENS = range(990, 1000)

_TOWER = dict(
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=28,
    patch_size=14,
)
_CLIP = _TOWER | dict(model_type="clip_vision_model")
_SIGLIP = _TOWER | dict(model_type="siglip_vision_model")
_PIXTRAL = _TOWER | dict(model_type="pixtral", head_dim=16)
_QWEN = dict(
    depth=1,
    embed_dim=32,
    hidden_size=64,
    num_heads=2,
    mlp_ratio=2,
    patch_size=14,
    intermediate_size=32,
    out_hidden_size=64,
    fullatt_block_indexes=[0],
)
_QWEN_TOKENS = dict(
    image_token_id=990,
    video_token_id=991,
    vision_start_token_id=992,
    vision_end_token_id=993,
)


def _sections(*sizes: int, **more: Any) -> dict[str, Any]:
  rope = dict(
      rope_type="default", rope_theta=20000.0, mrope_section=list(sizes)
  )
  return dict(rope_parameters=rope | more)


# Name -> class, the text model's settings, the tower's, and the model's own.
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]
MODELS = {
    "ref_llava": (
        "Llava",
        dict(model_type="llama", rope_theta=30000.0),
        _CLIP,
        dict(image_token_index=990, tie_word_embeddings=True),
    ),
    "ref_llava_next": (
        "LlavaNext",
        dict(model_type="mistral", head_dim=16, sliding_window=30),
        _CLIP,
        dict(image_token_index=990),
    ),
    "ref_llava_onevision": (
        "LlavaOnevision",
        dict(model_type="qwen2", tie_word_embeddings=True),
        _SIGLIP,
        dict(image_token_index=990),
    ),
    "ref_vipllava": (
        "VipLlava",
        dict(model_type="llama", attention_bias=True),
        _CLIP,
        dict(image_token_index=990),
    ),
    "ref_smolvlm": (
        "SmolVLM",
        dict(model_type="llama"),
        _TOWER,
        dict(image_token_id=990),
    ),
    "ref_idefics3": (
        "Idefics3",
        dict(model_type="llama", mlp_bias=True),
        _TOWER,
        dict(image_token_id=990, tie_word_embeddings=True),
    ),
    "ref_internvl": (
        "InternVL",
        dict(model_type="qwen3", head_dim=16),
        _TOWER
        | dict(
            model_type="internvl_vision", image_size=[28, 28], patch_size=[14] * 2
        ),
        dict(image_token_id=990),
    ),
    "ref_qwen2_vl": (
        "Qwen2VL",
        dict(model_type="qwen2_vl_text") | _sections(2, 3, 3),
        _QWEN,
        _QWEN_TOKENS | dict(tie_word_embeddings=True),
    ),
    "ref_qwen2_5_vl": (
        "Qwen2_5_VL",
        dict(model_type="qwen2_5_vl_text") | _sections(2, 3, 3),
        _QWEN,
        _QWEN_TOKENS,
    ),
    "ref_qwen3_vl": (
        "Qwen3VL",
        dict(model_type="qwen3_vl_text", head_dim=16)
        | _sections(4, 2, 2, mrope_interleaved=True),
        _QWEN | dict(num_position_embeddings=16, deepstack_visual_indexes=[0]),
        _QWEN_TOKENS,
    ),
    "ref_mistral3": (
        "Mistral3",
        dict(model_type="mistral", head_dim=16, sliding_window=None),
        _PIXTRAL,
        dict(image_token_index=990),
    ),
    "ref_aya_vision": (
        "AyaVision",
        dict(
            model_type="cohere2",
            head_dim=16,
            sliding_window=30,
            logit_scale=0.25,
        ),
        _SIGLIP,
        dict(image_token_index=990),
    ),
    "ref_cohere2_vision": (
        "Cohere2Vision",
        dict(model_type="cohere2", head_dim=16, sliding_window=30),
        _SIGLIP,
        dict(image_token_id=990),
    ),
    "ref_lighton_ocr": (
        "LightOnOcr",
        dict(model_type="qwen3", head_dim=16),
        _PIXTRAL,
        dict(image_token_id=990),
    ),
    # Published ones have a tower of another library; which one is no matter.
    "ref_fast_vlm": (
        "FastVlm",
        dict(model_type="qwen2", tie_word_embeddings=True),
        _CLIP,
        dict(image_token_id=990),
    ),
    "ref_got_ocr2": (
        "GotOcr2",
        dict(model_type="qwen2"),
        dict(
            hidden_size=32,
            output_channels=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
            window_size=2,
            global_attn_indexes=[0],
            mlp_dim=32,
        ),
        dict(image_token_index=990),
    ),
    "ref_ovis2": (
        "Ovis2",
        dict(model_type="qwen2"),
        _TOWER | dict(vocab_size=16),
        dict(
            image_token_id=990,
            visual_indicator_token_ids=[991, 992, 993, 994, 995],
            vocab_size=1000,
            hidden_size=64,
            tie_word_embeddings=False,
        ),
    ),
}

# By export_hf, in float32 and int8: one whose text model is Llama's, and one
# with positions of an image's rows and columns.
CONVERTED = ("ref_smolvlm", "ref_qwen2_5_vl")


def _randomise(model: Any) -> None:
  import torch

  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if name.endswith("embed_tokens.weight"):
        parameter.normal_(0, 0.5)
      elif name.endswith("bias"):
        parameter.normal_(0, 0.3)
      elif parameter.dim() >= 2:
        parameter.normal_(0, 1.3 / parameter.shape[-1] ** 0.5)
      else:
        parameter.uniform_(0.7, 1.3)


def checkpoint(
    out: pathlib.Path,
    kind: str,
    text: dict[str, Any],
    vision: dict[str, Any],
    settings: dict[str, Any],
    seed: int,
) -> None:
  """One of MODELS."""
  import torch
  import transformers

  config = getattr(transformers, f"{kind}Config")(
      text_config=_TEXT | text, vision_config=vision, **settings
  )
  torch.manual_seed(seed)
  model = transformers.AutoModelForImageTextToText.from_config(config)
  _randomise(model)
  model.eval().save_pretrained(out)

