// SPDX-License-Identifier: Apache-2.0
// OLMoE: experts, and one norm for all heads of the queries, and of the keys,
// of a token.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetOlmoeBlock(const ConfigFields& fields, ModelConfig* config) {
  config->qk_norm = true;
  config->qk_norm_of_all_heads = true;
  SetExperts(fields,
             {.count_alias = "num_local_experts",
              .size = "intermediate_size",
              .usually_taken = 8},
             config);
  config->experts.normalised = fields.Flag("norm_topk_prob", false);
}

}  // namespace

Family Olmoe() {
  return {.model_type = "olmoe",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 4096,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias", "num_experts", "num_local_experts"},
          .reads = {"clip_qkv"},
          .set_block = SetOlmoeBlock,
          .set_layers = [](const ConfigFields&,
                           ModelConfig* config) { SetExpertLayers(0, config); },
          .names =
              [](const ModelConfig& config) {
                return Without(ExpertNames(config),
                               {Part::kGate, Part::kUp, Part::kDown});
              }};
}

}  // namespace verify_tflite
