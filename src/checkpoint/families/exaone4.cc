// SPDX-License-Identifier: Apache-2.0
// EXAONE 4: norms of what attention and MLP give; where layers have windows,
// the others have no RoPE.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetExaone4Block(const ConfigFields&, ModelConfig* config) {
  SetPostNorms(config);
  config->qk_norm = true;
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
          .names = PostNormNames};
}

}  // namespace verify_tflite
