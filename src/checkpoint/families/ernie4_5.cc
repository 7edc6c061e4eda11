// SPDX-License-Identifier: Apache-2.0
// ERNIE 4.5 (dense): RoPE of neighbours.
#include "checkpoint/families/family.h"

namespace verify_tflite {

Family Ernie45() {
  return {.model_type = "ernie4_5",
          .rms_norm_eps = 1e-5,
          .rope_theta = 500000,
          .max_position_embeddings = 131072,
          .num_kv_heads = 2,
          .head_dim = 128,
          .tie_word_embeddings = true,
          .set_block = [](const ConfigFields& fields, ModelConfig* config) {
            const bool bias = fields.Flag("use_bias", false);
            config->qkv_bias = bias;
            config->o_bias = bias;
            config->mlp_bias = bias;
            config->interleaved_rope = true;
          }};
}

}  // namespace verify_tflite
