// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/families/family.h"

namespace verify_tflite {

Family Qwen3() {
  return {.model_type = "qwen3",
          .max_position_embeddings = 32768,
          .num_kv_heads = 32,
          .head_dim = 128,
          .attention_bias = Biases::kFromConfig,
          .windows = Windows::kUpper,
          .sliding_window = 4096,
          .handles = {"sliding_window", "attention_bias"},
          .set_block = [](const ConfigFields&, ModelConfig* config) {
            config->qk_norm = true;
          }};
}

}  // namespace verify_tflite
