// SPDX-License-Identifier: Apache-2.0
// OLMo 2: norms of what attention and MLP give, not of what they take, and one
// norm for all heads of the queries, and of the keys, of a token.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetOlmo2Block(const ConfigFields&, ModelConfig* config) {
  config->input_norm = false;
  config->mlp_norm = false;
  config->sandwich_norms = true;
  config->qk_norm = true;
  config->qk_norm_of_all_heads = true;
}

std::vector<PartName> Olmo2Names(const ModelConfig& config) {
  std::vector<PartName> names = LlamaNames(config);
  std::erase_if(names, [](const PartName& name) {
    return name.part == Part::kInputNorm || name.part == Part::kMlpNorm;
  });
  names.push_back({Part::kAttentionNorm, "layers.{}.post_attention_layernorm"});
  names.push_back({Part::kOutputNorm, "layers.{}.post_feedforward_layernorm"});
  return names;
}

}  // namespace

Family Olmo2() {
  return {.model_type = "olmo2",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias"},
          .set_block = SetOlmo2Block,
          .names = Olmo2Names};
}

}  // namespace verify_tflite
