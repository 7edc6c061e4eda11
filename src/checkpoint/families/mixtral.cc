// SPDX-License-Identifier: Apache-2.0
// Mixtral: a Mistral with experts.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetMixtralBlock(const ConfigFields& fields, ModelConfig* config) {
  SetExperts(fields,
             {.count = "num_local_experts",
              .count_alias = "num_experts",
              .size = "intermediate_size",
              .usually_taken = 2},
             config);
  config->experts.normalised = true;
}

std::vector<PartName> MixtralNames(const ModelConfig& config) {
  return Renamed(
      Without(LlamaNames(config), {Part::kGate, Part::kUp, Part::kDown}),
      {{Part::kRouter, "layers.{}.block_sparse_moe.gate"},
       {Part::kExpertGate, "layers.{}.block_sparse_moe.experts.{}.w1"},
       {Part::kExpertUp, "layers.{}.block_sparse_moe.experts.{}.w3"},
       {Part::kExpertDown, "layers.{}.block_sparse_moe.experts.{}.w2"}});
}

}  // namespace

Family Mixtral() {
  return {.model_type = "mixtral",
          .rms_norm_eps = 1e-5,
          .rope_theta = 1e6,
          .max_position_embeddings = 131072,
          .num_kv_heads = 8,
          .windows = Windows::kAll,
          .handles = {"sliding_window", "num_experts", "num_local_experts"},
          .set_block = SetMixtralBlock,
          .set_layers = [](const ConfigFields&,
                           ModelConfig* config) { SetExpertLayers(0, config); },
          .names = MixtralNames};
}

}  // namespace verify_tflite
