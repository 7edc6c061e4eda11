// SPDX-License-Identifier: Apache-2.0
// Jais 2: LayerNorm, an MLP without gate, of squared ReLU, biases everywhere.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetJais2Block(const ConfigFields& fields, ModelConfig* config) {
  const bool bias = fields.Flag("attention_bias", true);
  config->qkv_bias = bias;
  config->o_bias = bias;
  config->mlp_bias = fields.Flag("mlp_bias", true);
  config->layer_norm = true;
  config->gated_mlp = false;
}

std::vector<PartName> Jais2Names(const ModelConfig& config) {
  return Without(LlamaNames(config), {Part::kGate, Part::kQNorm, Part::kKNorm});
}

}  // namespace

Family Jais2() {
  return {.model_type = "jais2",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 8192,
          .activation = "relu2",
          .norm_eps_key = "layer_norm_eps",
          .handles = {"attention_bias", "mlp_bias"},
          .set_block = SetJais2Block,
          .names = Jais2Names};
}

}  // namespace verify_tflite
