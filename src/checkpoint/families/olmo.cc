// SPDX-License-Identifier: Apache-2.0
// OLMo 1: LayerNorm that neither scales nor shifts.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetOlmoBlock(const ConfigFields&, ModelConfig* config) {
  config->layer_norm = true;
  config->norm_weight = false;
  config->norm_bias = false;
  config->rms_norm_eps = 1e-5;  // whatever config.json says
}

std::vector<PartName> OlmoNames(const ModelConfig& config) {
  return Without(LlamaNames(config),
                 {Part::kInputNorm, Part::kMlpNorm, Part::kFinalNorm,
                  Part::kQNorm, Part::kKNorm});
}

}  // namespace

Family Olmo() {
  return {.model_type = "olmo",
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias"},
          .reads = {"clip_qkv"},
          .set_block = SetOlmoBlock,
          .names = OlmoNames};
}

}  // namespace verify_tflite
