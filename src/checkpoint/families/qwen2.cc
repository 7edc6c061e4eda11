// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/families/family.h"

namespace verify_tflite {

Family Qwen2() {
  return {.model_type = "qwen2",
          .max_position_embeddings = 32768,
          .num_kv_heads = 32,
          .attention_bias = Biases::kQkv,
          .windows = Windows::kUpper,
          .sliding_window = 4096,
          // transformers reads no attention_bias: q, k and v always have one.
          .handles = {"sliding_window", "attention_bias"}};
}

}  // namespace verify_tflite
