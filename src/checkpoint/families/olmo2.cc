// SPDX-License-Identifier: Apache-2.0
// OLMo 2: norms of what attention and MLP give, not of what they take, and one
// norm for all heads of the queries, and of the keys, of a token.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetOlmo2Block(const ConfigFields&, ModelConfig* config) {
  SetPostNorms(config);
  config->qk_norm = true;
  config->qk_norm_of_all_heads = true;
}

}  // namespace

Family Olmo2() {
  return {.model_type = "olmo2",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias"},
          .set_block = SetOlmo2Block,
          .names = PostNormNames};
}

// OLMo 3: most layers have a window. Of one RoPE setting for all, layers with a
// window take neither the scaling nor the base.
Family Olmo3() {
  Family family = Olmo2();
  family.model_type = "olmo3";
  family.rope_theta = 500000;
  family.local_rope_theta = 500000;
  family.windows = Windows::kPattern;
  family.sliding_window = 4096;
  family.window_pattern = 4;
  family.handles = {"attention_bias", "sliding_window"};
  return family;
}

}  // namespace verify_tflite
