// SPDX-License-Identifier: Apache-2.0
// GLM-4.5: experts in groups, chosen by sigmoids with a bias of the choice, and
// one that all rows take.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetGlm4MoeBlock(const ConfigFields& fields, ModelConfig* config) {
  config->qkv_bias = fields.Flag("attention_bias", false);
  config->qk_norm = fields.Flag("use_qk_norm", false);
  SetExperts(fields,
             {.count = "n_routed_experts",
              .count_alias = "num_local_experts",
              .usually_taken = 8},
             config);
  ExpertsConfig& experts = config->experts;
  experts.scores = RouterScores::kSigmoid;
  experts.normalised = fields.Flag("norm_topk_prob", true);
  experts.sum_offset = 1e-20;
  experts.scale = fields.Number("routed_scaling_factor", 1, 1e-6, 1e6);
  experts.choice_bias = true;
  experts.groups = fields.Size("n_group", 1);
  experts.groups_taken = fields.Size("topk_group", 1);
  experts.shared_size =
      experts.intermediate_size * fields.Size("n_shared_experts", 1);
  if (experts.count % experts.groups != 0 ||
      experts.count / experts.groups < 2 ||
      experts.groups_taken > experts.groups ||
      experts.groups_taken * (experts.count / experts.groups) < experts.taken) {
    throw Error(
        "{}: {} experts in {} groups, of which {} are taken, do not give {}",
        fields.origin(), experts.count, experts.groups, experts.groups_taken,
        experts.taken);
  }
}

std::vector<PartName> Glm4MoeNames(const ModelConfig& config) {
  std::vector<PartName> names = ExpertNames(config);
  names.insert(
      names.end(),
      {{Part::kRouterBias, "layers.{}.mlp.gate.e_score_correction_bias"},
       {Part::kSharedGate, "layers.{}.mlp.shared_experts.gate_proj"},
       {Part::kSharedUp, "layers.{}.mlp.shared_experts.up_proj"},
       {Part::kSharedDown, "layers.{}.mlp.shared_experts.down_proj"}});
  return names;
}

}  // namespace

Family Glm4Moe() {
  return {.model_type = "glm4_moe",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 131072,
          .num_kv_heads = 8,
          .partial_rotary_factor = 0.5,
          .handles = {"attention_bias", "partial_rotary_factor", "use_qk_norm",
                      "num_local_experts"},
          .set_block = SetGlm4MoeBlock,
          .set_layers =
              [](const ConfigFields& fields, ModelConfig* config) {
                SetExpertLayers(fields.Size("first_k_dense_replace", 1,
                                            kMaxLayers, /*min=*/0),
                                config);
              },
          .names = Glm4MoeNames};
}

}  // namespace verify_tflite
