// SPDX-License-Identifier: Apache-2.0
// Command R (cohere) and Command R7B, A and the like (cohere2), whose layers
// without a window have no RoPE.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetCohereBlock(const ConfigFields& fields, ModelConfig* config) {
  config->layer_norm = true;
  config->norm_bias = false;
  config->parallel_block = true;
  config->mlp_norm = false;
  config->interleaved_rope = true;
  config->logit_divisor = 1 / fields.Number("logit_scale", 0.0625, 1e-6, 1e6);
}

std::vector<PartName> CohereNames(const ModelConfig& config) {
  return Without(LlamaNames(config), {Part::kMlpNorm});
}

}  // namespace

Family Cohere() {
  return {.model_type = "cohere",
          .rms_norm_eps = 1e-5,
          .rope_theta = 500000,
          .max_position_embeddings = 8192,
          .tie_word_embeddings = true,
          .attention_bias = Biases::kFromConfig,
          .norm_eps_key = "layer_norm_eps",
          .handles = {"attention_bias", "logit_scale"},
          .reads = {"use_qk_norm"},
          .set_block = SetCohereBlock,
          .names = CohereNames};
}

Family Cohere2() {
  Family family = Cohere();
  family.model_type = "cohere2";
  family.rope_theta = 10000;
  family.windows = Windows::kPattern;
  family.sliding_window = 4096;
  family.window_pattern = 4;
  family.rope_with_window_alone = true;
  family.handles = {"attention_bias", "logit_scale", "sliding_window",
                    "sliding_window_pattern"};
  family.reads = {};
  family.set_block = [](const ConfigFields& fields, ModelConfig* config) {
    constexpr std::string_view kWindow = "sliding_window";
    if (fields.IsNull(kWindow)) {
      throw Error("{}: \"{}\" is null; transformers cannot run that",
                  fields.origin(), kWindow);
    }
    SetCohereBlock(fields, config);
  };
  return family;
}

}  // namespace verify_tflite
