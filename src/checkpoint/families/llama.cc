// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "checkpoint/families/family.h"

namespace verify_tflite {

std::vector<PartName> LlamaNames(const ModelConfig&) {
  return {{Part::kEmbedding, "embed_tokens"},
          {Part::kFinalNorm, "norm"},
          {Part::kHead, "lm_head"},
          {Part::kInputNorm, "layers.{}.input_layernorm"},
          {Part::kMlpNorm, "layers.{}.post_attention_layernorm"},
          {Part::kQ, "layers.{}.self_attn.q_proj"},
          {Part::kK, "layers.{}.self_attn.k_proj"},
          {Part::kV, "layers.{}.self_attn.v_proj"},
          {Part::kQNorm, "layers.{}.self_attn.q_norm"},
          {Part::kKNorm, "layers.{}.self_attn.k_norm"},
          {Part::kO, "layers.{}.self_attn.o_proj"},
          {Part::kGate, "layers.{}.mlp.gate_proj"},
          {Part::kUp, "layers.{}.mlp.up_proj"},
          {Part::kDown, "layers.{}.mlp.down_proj"}};
}

std::vector<PartName> Renamed(std::vector<PartName> names,
                              const std::vector<PartName>& rows) {
  for (const PartName& row : rows) {
    std::erase_if(names,
                  [&](const PartName& old) { return old.part == row.part; });
    names.push_back(row);
  }
  return names;
}

std::vector<PartName> Without(std::vector<PartName> names,
                              const std::vector<Part>& parts) {
  std::erase_if(names, [&](const PartName& name) {
    return std::ranges::count(parts, name.part) > 0;
  });
  return names;
}

Family Llama() {
  return {.model_type = "llama",
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias", "mlp_bias"}};
}

}  // namespace verify_tflite
