// SPDX-License-Identifier: Apache-2.0
// Seed-OSS: biases of q, k and v, and of o by a setting of its own.
#include "checkpoint/families/family.h"

namespace verify_tflite {

Family SeedOss() {
  return {.model_type = "seed_oss",
          .max_position_embeddings = 524288,
          .num_kv_heads = 8,
          .head_dim = 128,
          .handles = {"attention_bias", "mlp_bias"},
          .set_block = [](const ConfigFields& fields, ModelConfig* config) {
            config->qkv_bias = fields.Flag("attention_bias", true);
            config->o_bias = fields.Flag("attention_out_bias", false);
          }};
}

}  // namespace verify_tflite
