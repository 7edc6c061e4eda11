// SPDX-License-Identifier: Apache-2.0
// GLM-4 9B (glm) and GLM-4-0414 (glm4), of which the latter has norms of what
// attention and MLP give, too.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetGlmBlock(const ConfigFields& fields, ModelConfig* config) {
  config->qkv_bias = fields.Flag("attention_bias", true);
  config->interleaved_rope = true;
}

std::vector<PartName> GlmNames(const ModelConfig& config) {
  std::vector<PartName> names =
      Without(LlamaNames(config), {Part::kGate, Part::kUp});
  names.push_back({Part::kGateUp, "layers.{}.mlp.gate_up_proj"});
  return names;
}

std::vector<PartName> Glm4Names(const ModelConfig& config) {
  std::vector<PartName> names = GlmNames(config);
  names.push_back({Part::kAttentionNorm, "layers.{}.post_self_attn_layernorm"});
  names.push_back({Part::kOutputNorm, "layers.{}.post_mlp_layernorm"});
  return names;
}

}  // namespace

Family Glm() {
  return {.model_type = "glm",
          .rms_norm_eps = 1.5625e-7,
          .max_position_embeddings = 131072,
          .num_kv_heads = 2,
          .head_dim = 128,
          .partial_rotary_factor = 0.5,
          .handles = {"attention_bias", "partial_rotary_factor"},
          .set_block = SetGlmBlock,
          .names = GlmNames};
}

Family Glm4() {
  Family family = Glm();
  family.model_type = "glm4";
  family.set_block = [](const ConfigFields& fields, ModelConfig* config) {
    SetGlmBlock(fields, config);
    config->sandwich_norms = true;
  };
  family.names = Glm4Names;
  return family;
}

}  // namespace verify_tflite
