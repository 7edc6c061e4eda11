// SPDX-License-Identifier: Apache-2.0
// Apertus: an MLP without gate, of xIELU, whose numbers are trained.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetApertusBlock(const ConfigFields&, ModelConfig* config) {
  config->gated_mlp = false;
  config->qk_norm = true;
}

std::vector<PartName> ApertusNames(const ModelConfig& config) {
  std::vector<PartName> names =
      Renamed(Without(LlamaNames(config), {Part::kGate}),
              {{Part::kInputNorm, "layers.{}.attention_layernorm"},
               {Part::kMlpNorm, "layers.{}.feedforward_layernorm"}});
  if (config.activation == Activation::kXielu) {
    names.push_back({Part::kAlphaP, "layers.{}.mlp.act_fn.alpha_p"});
    names.push_back({Part::kAlphaN, "layers.{}.mlp.act_fn.alpha_n"});
    names.push_back({Part::kXieluBeta, "layers.{}.mlp.act_fn.beta"});
    names.push_back({Part::kXieluEps, "layers.{}.mlp.act_fn.eps"});
  }
  return names;
}

}  // namespace

Family Apertus() {
  return {.model_type = "apertus",
          .rms_norm_eps = 1e-5,
          .rope_theta = 12e6,
          .max_position_embeddings = 65536,
          .attention_bias = Biases::kFromConfig,
          .activation = "xielu",
          .default_rope = R"({
            "rope_type": "llama3", "rope_theta": 12e6, "factor": 8,
            "original_max_position_embeddings": 8192, "low_freq_factor": 1,
            "high_freq_factor": 4})",
          .handles = {"attention_bias"},
          .set_block = SetApertusBlock,
          .names = ApertusNames};
}

}  // namespace verify_tflite
