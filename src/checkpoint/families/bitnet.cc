// SPDX-License-Identifier: Apache-2.0
// BitNet b1.58, whose weights are those of its bfloat16 files: norms of what o
// and down read, squared ReLU.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

std::vector<PartName> BitNetNames(const ModelConfig& config) {
  std::vector<PartName> names = LlamaNames(config);
  names.push_back(
      {Part::kAttentionSubNorm, "layers.{}.self_attn.attn_sub_norm"});
  names.push_back({Part::kMlpSubNorm, "layers.{}.mlp.ffn_sub_norm"});
  return names;
}

}  // namespace

Family BitNet() {
  return {.model_type = "bitnet",
          .rms_norm_eps = 1e-5,
          .rope_theta = 500000,
          .max_position_embeddings = 2048,
          .num_kv_heads = 5,
          .attention_bias = Biases::kFromConfig,
          .activation = "relu2",
          .handles = {"attention_bias"},
          .set_block = [](const ConfigFields&,
                          ModelConfig* config) { config->sub_norms = true; },
          .names = BitNetNames};
}

}  // namespace verify_tflite
