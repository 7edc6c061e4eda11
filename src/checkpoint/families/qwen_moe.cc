// SPDX-License-Identifier: Apache-2.0
// Qwen 1.5 and 2 MoE (qwen2_moe), whose layers have an expert for all rows,
// too, and Qwen 3 MoE (qwen3_moe).
#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

constexpr std::string_view kWithout = "mlp_only_layers";

// Every decoder_sparse_step-th layer that mlp_only_layers does not name.
void SetSparseLayers(const ConfigFields& fields, ModelConfig* config) {
  const int64_t step = fields.Size("decoder_sparse_step", 1);
  std::vector<int64_t> without;
  if (const json* value = fields.Find(kWithout)) {
    if (!value->is_array()) {
      throw fields.Unexpected(kWithout, *value, "an array");
    }
    for (const json& layer : *value) {
      if (!layer.is_number_unsigned()) {
        throw fields.Unexpected(kWithout, *value, "numbers of layers");
      }
      without.push_back(layer.get<int64_t>());
    }
  }
  for (int64_t i = 0; i < std::ssize(config->layers); ++i) {
    config->layers[static_cast<size_t>(i)].experts =
        (i + 1) % step == 0 && std::ranges::count(without, i) == 0;
  }
}

void SetQwen2MoeBlock(const ConfigFields& fields, ModelConfig* config) {
  config->qkv_bias = fields.Flag("qkv_bias", true);
  SetExperts(fields, {.usually_taken = 4}, config);
  config->experts.normalised = fields.Flag("norm_topk_prob", false);
  config->experts.shared_size = fields.Size("shared_expert_intermediate_size");
  config->experts.shared_scale = true;
  // Its own rule of which layers have a window is not that of Qwen 2.
  if (fields.Flag("use_sliding_window", false) &&
      fields.Find("layer_types") == nullptr) {
    throw fields.Unexpected("use_sliding_window", true,
                            "false, or \"layer_types\" beside it");
  }
}

void SetQwen3MoeBlock(const ConfigFields& fields, ModelConfig* config) {
  config->qk_norm = true;
  SetExperts(fields, {.count_alias = "num_local_experts", .usually_taken = 8},
             config);
  config->experts.normalised = fields.Flag("norm_topk_prob", false);
}

std::vector<PartName> Qwen2MoeNames(const ModelConfig& config) {
  std::vector<PartName> names = ExpertNames(config);
  names.insert(names.end(),
               {{Part::kSharedGate, "layers.{}.mlp.shared_expert.gate_proj"},
                {Part::kSharedUp, "layers.{}.mlp.shared_expert.up_proj"},
                {Part::kSharedDown, "layers.{}.mlp.shared_expert.down_proj"},
                {Part::kSharedScale, "layers.{}.mlp.shared_expert_gate"}});
  return names;
}

}  // namespace

Family Qwen2Moe() {
  return {.model_type = "qwen2_moe",
          .max_position_embeddings = 32768,
          .num_kv_heads = 16,
          .windows = Windows::kUpper,
          .sliding_window = 4096,
          .handles = {"sliding_window", "attention_bias", "num_experts"},
          .set_block = SetQwen2MoeBlock,
          .set_layers = SetSparseLayers,
          .names = Qwen2MoeNames};
}

Family Qwen3Moe() {
  return {.model_type = "qwen3_moe",
          .max_position_embeddings = 32768,
          .num_kv_heads = 4,
          .attention_bias = Biases::kFromConfig,
          .windows = Windows::kAll,
          .sliding_window = 4096,
          .window_switch = true,
          .handles = {"sliding_window", "attention_bias", "num_experts",
                      "num_local_experts"},
          .set_block = SetQwen3MoeBlock,
          .set_layers = SetSparseLayers,
          .names = ExpertNames};
}

}  // namespace verify_tflite
