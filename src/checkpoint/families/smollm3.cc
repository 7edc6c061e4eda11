// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/families/family.h"

namespace verify_tflite {

Family SmolLm3() {
  return {.model_type = "smollm3",
          .rope_theta = 2e6,
          .max_position_embeddings = 32768,
          .num_kv_heads = 4,
          .tie_word_embeddings = true,
          .attention_bias = Biases::kFromConfig,
          .windows = Windows::kWithoutRope,
          .handles = {"attention_bias", "mlp_bias", "sliding_window",
                      "no_rope_layers"}};
}

}  // namespace verify_tflite
