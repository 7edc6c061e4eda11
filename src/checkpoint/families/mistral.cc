// SPDX-License-Identifier: Apache-2.0
// Mistral, Ministral and Ministral 3.
#include <optional>
#include <string_view>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

// transformers takes both numbers from the RoPE settings, whatever their type
// is, and cannot run without. With YaRN, the number of positions may stand
// outside.
void SetQueryScaling(const ConfigFields& rope, const ConfigFields& fields,
                     ModelConfig* config) {
  constexpr std::string_view kPositions = "original_max_position_embeddings";
  QueryScaling& scaling = config->query_scaling.emplace();
  scaling.beta = rope.Number("llama_4_scaling_beta", {}, -1e3, 1e3);
  const bool outside = config->yarn_rope || config->llama3_rope;
  scaling.original_max_position_embeddings =
      outside && fields.Find(kPositions) != nullptr
          ? fields.Size(kPositions, {}, kMaxPositions)
          : rope.Size(kPositions,
                      outside ? std::optional(config->max_position_embeddings)
                              : std::nullopt,
                      kMaxPositions);
}

}  // namespace

Family Mistral() {
  return {.model_type = "mistral",
          .max_position_embeddings = 131072,
          .num_kv_heads = 8,
          .windows = Windows::kAll,
          .sliding_window = 4096,
          .handles = {"sliding_window"}};
}

Family Ministral() {
  return {.model_type = "ministral",
          .max_position_embeddings = 131072,
          .num_kv_heads = 8,
          .windows = Windows::kEach,
          .sliding_window = 4096,
          .handles = {"sliding_window"}};
}

// With a scale of queries that grows with the position.
Family Ministral3() {
  return {.model_type = "ministral3",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 262144,
          .num_kv_heads = 8,
          .head_dim = 128,
          .windows = Windows::kAll,
          .default_rope = R"({
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 16,
            "original_max_position_embeddings": 16384, "beta_fast": 32,
            "beta_slow": 1, "mscale": 1, "mscale_all_dim": 1,
            "llama_4_scaling_beta": 0.1})",
          .handles = {"sliding_window"},
          .set_rope = SetQueryScaling};
}

}  // namespace verify_tflite
