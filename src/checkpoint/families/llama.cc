// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "checkpoint/families/family.h"

namespace verify_tflite {

std::vector<PartName> LlamaNames(const ModelConfig&) {
  return {{Part::kEmbedding, "embed_tokens"},
          {Part::kFinalNorm, "norm"},
          {Part::kHead, "lm_head"},
          {Part::kInputNorm, "layers.{}.input_layernorm"},
          {Part::kMlpNorm, "layers.{}.post_attention_layernorm"},
          {Part::kQ, "layers.{}.self_attn.q_proj"},
          {Part::kK, "layers.{}.self_attn.k_proj"},
          {Part::kV, "layers.{}.self_attn.v_proj"},
          {Part::kQNorm, "layers.{}.self_attn.q_norm"},
          {Part::kKNorm, "layers.{}.self_attn.k_norm"},
          {Part::kO, "layers.{}.self_attn.o_proj"},
          {Part::kGate, "layers.{}.mlp.gate_proj"},
          {Part::kUp, "layers.{}.mlp.up_proj"},
          {Part::kDown, "layers.{}.mlp.down_proj"}};
}

std::vector<PartName> SandwichNames(const ModelConfig& config) {
  return Renamed(LlamaNames(config),
                 {{Part::kAttentionNorm, "layers.{}.post_attention_layernorm"},
                  {Part::kMlpNorm, "layers.{}.pre_feedforward_layernorm"},
                  {Part::kOutputNorm, "layers.{}.post_feedforward_layernorm"}});
}

std::vector<PartName> PerLayerNames() {
  return {{Part::kPerLayerEmbedding, "embed_tokens_per_layer"},
          {Part::kPerLayerModelProjection, "per_layer_model_projection"},
          {Part::kPerLayerModelNorm, "per_layer_projection_norm"},
          {Part::kPerLayerGate, "layers.{}.per_layer_input_gate"},
          {Part::kPerLayerProjection, "layers.{}.per_layer_projection"},
          {Part::kPerLayerNorm, "layers.{}.post_per_layer_input_norm"}};
}

void SetPostNorms(ModelConfig* config) {
  config->input_norm = false;
  config->mlp_norm = false;
  config->sandwich_norms = true;
}

std::vector<PartName> PostNormNames(const ModelConfig& config) {
  return Without(SandwichNames(config), {Part::kInputNorm, Part::kMlpNorm});
}

std::vector<PartName> Renamed(std::vector<PartName> names,
                              const std::vector<PartName>& rows) {
  for (const PartName& row : rows) {
    std::erase_if(names,
                  [&](const PartName& old) { return old.part == row.part; });
    names.push_back(row);
  }
  return names;
}

std::vector<PartName> Without(std::vector<PartName> names,
                              const std::vector<Part>& parts) {
  std::erase_if(names, [&](const PartName& name) {
    return std::ranges::count(parts, name.part) > 0;
  });
  return names;
}

Family Llama() {
  return {.model_type = "llama",
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias", "mlp_bias"}};
}

// These two are computed by Llama's class.
Family InternLm3() {
  return {.model_type = "internlm3",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 32768,
          .num_kv_heads = 2,
          .head_dim = 128,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias", "mlp_bias"},
          .aliases = {{"qkv_bias", "attention_bias"}, {"bias", "mlp_bias"}},
          .set_block =
              [](const ConfigFields& fields, ModelConfig* config) {
                if (config->qkv_bias == config->mlp_bias) return;
                throw Error(
                    "{}: \"qkv_bias\" and \"bias\" differ; transformers "
                    "refuses that",
                    fields.origin());
              },
          .parse = ParseRenamed};
}

Family IQuestCoder() {
  return {.model_type = "iquestcoder",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 131072,
          .num_kv_heads = 8,
          .head_dim = 128,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias", "mlp_bias"},
          .reads = {"clip_qkv"}};
}

}  // namespace verify_tflite
