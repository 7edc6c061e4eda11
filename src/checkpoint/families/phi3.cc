// SPDX-License-Identifier: Apache-2.0
// Phi-3, 3.5 and 4.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

std::vector<PartName> Phi3Names(const ModelConfig&) {
  return {{Part::kEmbedding, "embed_tokens"},
          {Part::kFinalNorm, "norm"},
          {Part::kHead, "lm_head"},
          {Part::kInputNorm, "layers.{}.input_layernorm"},
          {Part::kMlpNorm, "layers.{}.post_attention_layernorm"},
          {Part::kQkv, "layers.{}.self_attn.qkv_proj"},
          {Part::kO, "layers.{}.self_attn.o_proj"},
          {Part::kGateUp, "layers.{}.mlp.gate_up_proj"},
          {Part::kDown, "layers.{}.mlp.down_proj"}};
}

}  // namespace

Family Phi3() {
  return {.model_type = "phi3",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 4096,
          .original_max_position_embeddings = 4096,
          .windows = Windows::kAll,
          .long_rope = true,
          .handles = {"sliding_window", "partial_rotary_factor"},
          .names = Phi3Names};
}

}  // namespace verify_tflite
