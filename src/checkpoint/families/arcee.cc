// SPDX-License-Identifier: Apache-2.0
// AFM (arcee): an MLP without gate, of squared ReLU.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

std::vector<PartName> ArceeNames(const ModelConfig& config) {
  return Without(LlamaNames(config), {Part::kGate});
}

}  // namespace

Family Arcee() {
  return {.model_type = "arcee",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 4096,
          .attention_bias = Biases::kFromConfig,
          .activation = "relu2",
          .handles = {"attention_bias", "mlp_bias"},
          .set_block = [](const ConfigFields&,
                          ModelConfig* config) { config->gated_mlp = false; },
          .names = ArceeNames};
}

}  // namespace verify_tflite
