// SPDX-License-Identifier: Apache-2.0
// EXAONE 4: norms of what attention and MLP give; where layers have windows,
// the others have no RoPE.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetExaone4Block(const ConfigFields&, ModelConfig* config) {
  config->input_norm = false;
  config->mlp_norm = false;
  config->sandwich_norms = true;
  config->qk_norm = true;
}

std::vector<PartName> Exaone4Names(const ModelConfig& config) {
  std::vector<PartName> names =
      Without(LlamaNames(config), {Part::kInputNorm, Part::kMlpNorm});
  names.push_back({Part::kAttentionNorm, "layers.{}.post_attention_layernorm"});
  names.push_back({Part::kOutputNorm, "layers.{}.post_feedforward_layernorm"});
  return names;
}

}  // namespace

Family Exaone4() {
  return {.model_type = "exaone4",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 2048,
          .num_kv_heads = 32,
          .windows = Windows::kPattern,
          .sliding_window = 4096,
          .window_pattern = 4,
          .rope_with_window_alone = true,
          .handles = {"sliding_window", "sliding_window_pattern"},
          .set_block = SetExaone4Block,
          .names = Exaone4Names};
}

}  // namespace verify_tflite
