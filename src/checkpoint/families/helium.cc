// SPDX-License-Identifier: Apache-2.0
// Helium: RoPE of neighbours, and no bias of o.
#include "checkpoint/families/family.h"

namespace verify_tflite {

Family Helium() {
  return {.model_type = "helium",
          .rms_norm_eps = 1e-8,
          .rope_theta = 100000,
          .max_position_embeddings = 4096,
          .num_kv_heads = 20,
          .head_dim = 128,
          .handles = {"attention_bias", "mlp_bias"},
          .set_block = [](const ConfigFields& fields, ModelConfig* config) {
            config->qkv_bias = fields.Flag("attention_bias", false);
            config->interleaved_rope = true;
          }};
}

}  // namespace verify_tflite
