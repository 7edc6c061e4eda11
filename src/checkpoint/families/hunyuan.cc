// SPDX-License-Identifier: Apache-2.0
// HunYuan (dense): norms of queries and keys behind RoPE.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetHunYuanBlock(const ConfigFields& fields, ModelConfig* config) {
  // Where it is absent, transformers multiplies with None.
  fields.Size("head_dim");
  config->qk_norm = true;
  config->qk_norm_after_rope = true;
}

std::vector<PartName> HunYuanNames(const ModelConfig& config) {
  return Renamed(LlamaNames(config),
                 {{Part::kQNorm, "layers.{}.self_attn.query_layernorm"},
                  {Part::kKNorm, "layers.{}.self_attn.key_layernorm"}});
}

}  // namespace

Family HunYuanV1Dense() {
  return {.model_type = "hunyuan_v1_dense",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .ntk_alpha = true,
          .handles = {"attention_bias"},
          .set_block = SetHunYuanBlock,
          .names = HunYuanNames};
}

}  // namespace verify_tflite
