// SPDX-License-Identifier: Apache-2.0
// ERNIE 4.5: RoPE of neighbours; dense, and with experts (ernie4_5_moe).
#include <nlohmann/json.hpp>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetErnie45Block(const ConfigFields& fields, ModelConfig* config) {
  const bool bias = fields.Flag("use_bias", false);
  config->qkv_bias = bias;
  config->o_bias = bias;
  config->mlp_bias = bias;
  config->interleaved_rope = true;
}

// The choice has a bias of its own.
void SetErnie45MoeBlock(const ConfigFields& fields, ModelConfig* config) {
  SetErnie45Block(fields, config);
  SetExperts(fields,
             {.count = "moe_num_experts",
              .count_alias = "num_experts",
              .taken = "moe_k",
              .usually_taken = 6},
             config);
  ExpertsConfig& experts = config->experts;
  experts.normalised = true;
  experts.least_sum = fields.Number("moe_norm_min", 1e-12, 0, 1);
  experts.choice_bias = true;
  experts.shared_size =
      experts.intermediate_size *
      fields.Size("moe_num_shared_experts", 2, kMaxSize, /*min=*/0);
}

// Every moe_layer_interval-th, from one on up to another.
void SetErnie45MoeLayers(const ConfigFields& fields, ModelConfig* config) {
  const int64_t interval = fields.Size("moe_layer_interval", 1);
  const int64_t first =
      fields.Size("moe_layer_start_index", 1, kMaxLayers, /*min=*/0);
  constexpr std::string_view kLast = "moe_layer_end_index";
  const nlohmann::json* end = fields.Find(kLast);
  const int64_t last = end == nullptr || *end == -1
                           ? config->num_layers - 1
                           : fields.Size(kLast, {}, kMaxLayers, /*min=*/0);
  for (int64_t i = 0; i < std::ssize(config->layers); ++i) {
    config->layers[static_cast<size_t>(i)].experts =
        (i + 1) % interval == 0 && i >= first && i <= last;
  }
}

std::vector<PartName> Ernie45MoeNames(const ModelConfig& config) {
  std::vector<PartName> names = ExpertNames(config);
  names.insert(
      names.end(),
      {{Part::kRouterBias, "layers.{}.mlp.moe_statics.e_score_correction_bias"},
       {Part::kSharedGate, "layers.{}.mlp.shared_experts.gate_proj"},
       {Part::kSharedUp, "layers.{}.mlp.shared_experts.up_proj"},
       {Part::kSharedDown, "layers.{}.mlp.shared_experts.down_proj"}});
  return names;
}

}  // namespace

Family Ernie45() {
  return {.model_type = "ernie4_5",
          .rms_norm_eps = 1e-5,
          .rope_theta = 500000,
          .max_position_embeddings = 131072,
          .num_kv_heads = 2,
          .head_dim = 128,
          .tie_word_embeddings = true,
          .set_block = SetErnie45Block};
}

Family Ernie45Moe() {
  return {.model_type = "ernie4_5_moe",
          .rms_norm_eps = 1e-5,
          .rope_theta = 500000,
          .max_position_embeddings = 131072,
          .num_kv_heads = 4,
          .tie_word_embeddings = true,
          .handles = {"num_experts"},
          .set_block = SetErnie45MoeBlock,
          .set_layers = SetErnie45MoeLayers,
          .names = Ernie45MoeNames};
}

}  // namespace verify_tflite
