// SPDX-License-Identifier: Apache-2.0
// Granite 3: a Llama with four factors of its own. HyperCLOVA X: the same with
// norms of what attention and MLP give. Granite MoE: with experts, and with one
// that all rows take.
#include <cmath>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetGraniteBlock(const ConfigFields& fields, ModelConfig* config) {
  const auto factor = [&](std::string_view key) {
    return fields.Number(key, 1, 1e-6, 1e6);
  };
  config->embedding_scale = factor("embedding_multiplier");
  config->attention_scale = factor("attention_multiplier");
  config->residual_scale = factor("residual_multiplier");
  config->logit_divisor = factor("logits_scaling");
}

// Logits are multiplied by what Granite's are divided by.
void SetHyperClovaXBlock(const ConfigFields& fields, ModelConfig* config) {
  const double usual = 1 / std::sqrt(static_cast<double>(config->head_dim));
  SetGraniteBlock(fields, config);
  config->attention_scale =
      fields.Number("attention_multiplier", usual, 1e-6, 1e6);
  config->logit_divisor = 1 / config->logit_divisor;
  config->sandwich_norms = fields.Flag("use_post_norm", true);
}

std::vector<PartName> HyperClovaXNames(const ModelConfig& config) {
  std::vector<PartName> names = LlamaNames(config);
  names.push_back({Part::kAttentionNorm, "layers.{}.post_norm1"});
  names.push_back({Part::kOutputNorm, "layers.{}.post_norm2"});
  return names;
}

// Of the taken experts' products alone there is a softmax: what softmax makes
// of all, divided by the sum of theirs.
void SetGraniteMoeBlock(const ConfigFields& fields, ModelConfig* config) {
  SetGraniteBlock(fields, config);
  SetExperts(fields,
             {.count = "num_local_experts",
              .size = "intermediate_size",
              .usually_taken = 2},
             config);
  config->experts.normalised = true;
}

void SetGraniteMoeSharedBlock(const ConfigFields& fields, ModelConfig* config) {
  SetGraniteMoeBlock(fields, config);
  config->experts.shared_size =
      fields.Size("shared_intermediate_size", 0, kMaxSize, /*min=*/0);
}

std::vector<PartName> GraniteMoeNames(const ModelConfig& config) {
  return Renamed(
      Without(LlamaNames(config), {Part::kGate, Part::kUp, Part::kDown}),
      {{Part::kRouter, "layers.{}.block_sparse_moe.router.layer"},
       {Part::kExpertGateUp, "layers.{}.block_sparse_moe.input_linear"},
       {Part::kExpertDown, "layers.{}.block_sparse_moe.output_linear"},
       {Part::kSharedGateUp, "layers.{}.shared_mlp.input_linear"},
       {Part::kSharedDown, "layers.{}.shared_mlp.output_linear"}});
}

}  // namespace

Family Granite() {
  return {.model_type = "granite",
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias", "mlp_bias", "embedding_multiplier",
                      "attention_multiplier", "residual_multiplier",
                      "logits_scaling"},
          .set_block = SetGraniteBlock};
}

Family GraniteMoe() {
  Family family = Granite();
  family.model_type = "granitemoe";
  family.handles = {"attention_bias",       "embedding_multiplier",
                    "attention_multiplier", "residual_multiplier",
                    "logits_scaling",       "num_local_experts"};
  family.set_block = SetGraniteMoeBlock;
  family.set_layers = [](const ConfigFields&, ModelConfig* config) {
    SetExpertLayers(0, config);
  };
  family.names = GraniteMoeNames;
  return family;
}

Family GraniteMoeShared() {
  Family family = GraniteMoe();
  family.model_type = "granitemoeshared";
  family.set_block = SetGraniteMoeSharedBlock;
  return family;
}

Family HyperClovaX() {
  Family family = Granite();
  family.model_type = "hyperclovax";
  family.set_block = SetHyperClovaXBlock;
  family.names = HyperClovaXNames;
  return family;
}

}  // namespace verify_tflite
