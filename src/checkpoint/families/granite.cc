// SPDX-License-Identifier: Apache-2.0
// Granite 3: a Llama with four factors of its own.
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

}  // namespace verify_tflite
