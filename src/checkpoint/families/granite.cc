// SPDX-License-Identifier: Apache-2.0
// Granite 3: a Llama with four factors of its own. HyperCLOVA X: the same with
// norms of what attention and MLP give.
#include <cmath>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetGraniteBlock(const ConfigFields& fields, ModelConfig* config) {
  const auto factor = [&](std::string_view key) {
    return fields.Number(key, 1, 1e-6, 1e6);
  };
  config->embedding_scale = factor("embedding_multiplier");
  config->attention_scale = factor("attention_multiplier");
  config->residual_scale = factor("residual_multiplier");
  config->logit_divisor = factor("logits_scaling");
}

// Logits are multiplied by what Granite's are divided by.
void SetHyperClovaXBlock(const ConfigFields& fields, ModelConfig* config) {
  const double usual = 1 / std::sqrt(static_cast<double>(config->head_dim));
  SetGraniteBlock(fields, config);
  config->attention_scale =
      fields.Number("attention_multiplier", usual, 1e-6, 1e6);
  config->logit_divisor = 1 / config->logit_divisor;
  config->sandwich_norms = fields.Flag("use_post_norm", true);
}

std::vector<PartName> HyperClovaXNames(const ModelConfig& config) {
  std::vector<PartName> names = LlamaNames(config);
  names.push_back({Part::kAttentionNorm, "layers.{}.post_norm1"});
  names.push_back({Part::kOutputNorm, "layers.{}.post_norm2"});
  return names;
}

}  // namespace

Family Granite() {
  return {.model_type = "granite",
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias", "mlp_bias", "embedding_multiplier",
                      "attention_multiplier", "residual_multiplier",
                      "logits_scaling"},
          .set_block = SetGraniteBlock};
}

Family HyperClovaX() {
  Family family = Granite();
  family.model_type = "hyperclovax";
  family.set_block = SetHyperClovaXBlock;
  family.names = HyperClovaXNames;
  return family;
}

}  // namespace verify_tflite
