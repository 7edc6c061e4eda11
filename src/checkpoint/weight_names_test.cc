// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/weight_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {

void PrintTo(const WeightRole& role, std::ostream* out) {
  *out << Describe(role);
}

namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::Eq;
using ::testing::FieldsAre;

constexpr int32_t kLayers = 3;

// A decoder of kLayers layers of any family.
ModelConfig SmallConfig(std::string_view model_type,
                        const std::string& changes = "{}") {
  json config = json::parse(R"({
    "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "model_dim": 64, "num_transformer_layers": 3,
    "num_query_heads": [4, 4, 4], "ffn_multipliers": [1, 2, 3]
  })");
  json text = config;
  text["num_kv_shared_layers"] = 0U;
  text["model_type"] = FindFamily(model_type)->text;
  config["text_config"] = text;
  config["model_type"] = model_type;
  if (model_type == "gemma3n_text") config["num_kv_shared_layers"] = 0U;
  if (model_type == "openelm") config["num_kv_heads"] = {2U, 2U, 2U};
  if (model_type.find("moe") != std::string_view::npos ||
      model_type == "mixtral") {
    config.update(json::parse(R"({
      "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
      "moe_num_experts": 4, "num_experts_per_tok": 2, "moe_k": 2,
      "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48,
      "shared_intermediate_size": 40
    })"));
  }
  config.update(json::parse(changes));
  return ParseModelConfig(config, "config.json");
}

// The numbers of experts in a name: some, or none.
std::vector<int32_t> ExpertsOf(const PartName& part) {
  const size_t first = part.name.find("{}");
  const bool of_expert =
      first != std::string_view::npos &&
      part.name.find("{}", first + 1) != std::string_view::npos;
  return of_expert ? std::vector<int32_t>{0, 3, 127} : std::vector<int32_t>{-1};
}

// Every role that a tensor of these names can have.
std::vector<WeightRole> RolesOf(const WeightNames& names) {
  std::vector<WeightRole> roles;
  for (const PartName& part : names.parts()) {
    const bool in_layer = part.name.find("{}") != std::string_view::npos;
    for (int32_t i = 0; i < (in_layer ? kLayers : 1); ++i) {
      for (const bool bias : {false, true}) {
        if (bias && IsBare(part.part)) continue;
        for (const int32_t expert : ExpertsOf(part)) {
          roles.push_back({part.part, in_layer ? i : -1, bias, expert});
        }
      }
    }
  }
  return roles;
}

class Names : public testing::TestWithParam<std::string> {};

TEST_P(Names, LeadBackToWhatTheyAreFor) {
  const auto all = WeightNamesOf(SmallConfig(GetParam()));
  ASSERT_FALSE(all.empty());
  for (const WeightNames& names : all) {
    std::set<std::string> seen;
    for (const WeightRole& role : RolesOf(names)) {
      const std::string name = names.Of(role);
      EXPECT_THAT(names.RoleOf(name), Eq(std::optional(role))) << name;
      EXPECT_TRUE(seen.insert(name).second) << name << " twice";
    }
    // Of some, norms have no weights.
    EXPECT_GE(seen.size(), 2 * (2 + 6 * kLayers));
  }
}

// What the reference asks for.
TEST_P(Names, ThereAreThoseOfEveryPart) {
  const ModelConfig config = SmallConfig(GetParam());
  for (const WeightNames& names : WeightNamesOf(config)) {
    std::vector<Part> parts = {Part::kEmbedding, Part::kHead, Part::kO};
    const bool experts =
        std::ranges::any_of(config.layers, &LayerConfig::experts);
    const bool dense =
        !std::ranges::all_of(config.layers, &LayerConfig::experts);
    if (experts) {
      parts.insert(parts.end(), {Part::kRouter, Part::kExpertDown});
      const bool shared = config.experts.shared_size > 0;
      if (shared) parts.push_back(Part::kSharedDown);
      if (config.experts.shared_scale) parts.push_back(Part::kSharedScale);
      if (config.experts.choice_bias) parts.push_back(Part::kRouterBias);
      if (!names.Has(Part::kExpertGateUp)) {
        parts.insert(parts.end(), {Part::kExpertGate, Part::kExpertUp});
      }
    }
    if (dense) parts.push_back(Part::kDown);
    std::vector<Part> norms = {Part::kFinalNorm};
    if (config.input_norm) norms.push_back(Part::kInputNorm);
    if (config.mlp_norm) norms.push_back(Part::kMlpNorm);
    if (config.sandwich_norms) {
      norms.insert(norms.end(), {Part::kAttentionNorm, Part::kOutputNorm});
    }
    if (config.qk_norm) norms.insert(norms.end(), {Part::kQNorm, Part::kKNorm});
    if (config.sub_norms) {
      norms.insert(norms.end(), {Part::kAttentionSubNorm, Part::kMlpSubNorm});
    }
    for (const Part norm : norms) {
      EXPECT_EQ(names.Has(norm), config.norm_weight) << NameOf(norm);
    }
    if (config.activation == Activation::kXielu) {
      parts.insert(parts.end(), {Part::kAlphaP, Part::kAlphaN, Part::kXieluBeta,
                                 Part::kXieluEps});
    }
    if (!names.Has(Part::kQkv)) {
      parts.insert(parts.end(), {Part::kQ, Part::kK, Part::kV});
    }
    if (dense && !names.Has(Part::kGateUp)) parts.push_back(Part::kUp);
    if (dense && !names.Has(Part::kGateUp) && config.gated_mlp) {
      parts.push_back(Part::kGate);
    }
    if (config.layer_scalar) parts.push_back(Part::kLayerScalar);
    if (config.per_layer_size > 0) {
      parts.insert(parts.end(),
                   {Part::kPerLayerEmbedding, Part::kPerLayerModelProjection,
                    Part::kPerLayerModelNorm, Part::kPerLayerGate,
                    Part::kPerLayerProjection, Part::kPerLayerNorm});
    }
    if (config.num_streams > 0) {
      parts.insert(parts.end(),
                   {Part::kStreamProjection, Part::kStreamOutput, Part::kStreamRouter,
                    Part::kStreamRouterNorm, Part::kPrediction, Part::kCorrection,
                    Part::kStreamScale, Part::kLaurelLeft, Part::kLaurelRight,
                    Part::kLaurelNorm});
    }
    if (config.conv_taps > 0) {
      parts.insert(parts.end(),
                   {Part::kConvInput, Part::kConvTaps, Part::kConvOutput});
    }
    for (const Part part : parts) {
      EXPECT_TRUE(names.Has(part)) << NameOf(part);
    }
  }
}

std::vector<std::string> ModelTypes() {
  std::vector<std::string> types;
  for (const Family& family : AllFamilies()) {
    types.emplace_back(family.model_type);
  }
  return types;
}

INSTANTIATE_TEST_SUITE_P(Families, Names, testing::ValuesIn(ModelTypes()),
                         [](const auto& info) { return info.param; });

WeightNames NamesOf(std::string_view model_type) {
  return WeightNamesOf(SmallConfig(model_type))[0];
}

TEST(WeightNames, AreThoseOfTheFamily) {
  const auto name = [](std::string_view family, const WeightRole& role) {
    return NamesOf(family).Of(role);
  };
  EXPECT_EQ(name("llama", {Part::kEmbedding}), "model.embed_tokens.weight");
  EXPECT_EQ(name("llama", {Part::kHead}), "lm_head.weight");
  EXPECT_EQ(name("llama", {Part::kQ, 12, true}),
            "model.layers.12.self_attn.q_proj.bias");
  EXPECT_EQ(name("llama", {Part::kMlpNorm, 0}),
            "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(name("gemma2", {Part::kAttentionNorm, 0}),
            "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(name("phi", {Part::kFinalNorm, -1, true}),
            "model.final_layernorm.bias");
  EXPECT_EQ(name("falcon", {Part::kQkv, 2}),
            "transformer.h.2.self_attention.query_key_value.weight");
  EXPECT_EQ(name("glm4", {Part::kMlpNorm, 1}),
            "model.layers.1.post_attention_layernorm.weight");
  EXPECT_EQ(name("apertus", {Part::kAlphaP, 1}),
            "model.layers.1.mlp.act_fn.alpha_p");
  EXPECT_EQ(name("bitnet", {Part::kMlpSubNorm, 2}),
            "model.layers.2.mlp.ffn_sub_norm.weight");
  EXPECT_EQ(name("openelm", {Part::kGateUp, 1}),
            "transformer.layers.1.ffn.proj_1.weight");
  EXPECT_EQ(name("gemma4", {Part::kLayerScalar, 1}),
            "model.language_model.layers.1.layer_scalar");
  EXPECT_EQ(name("gemma4_text", {Part::kPerLayerEmbedding}),
            "model.embed_tokens_per_layer.weight");
  EXPECT_EQ(name("gemma3n_text", {Part::kStreamProjection, 2}),
            "model.altup_projections.2.weight");
  EXPECT_EQ(name("gemma3n", {Part::kStreamScale, 1}),
            "model.language_model.layers.1.altup.correct_output_scale");
  EXPECT_EQ(name("qwen3_moe", {Part::kExpertUp, 1, false, 12}),
            "model.layers.1.mlp.experts.12.up_proj.weight");
  EXPECT_EQ(name("mixtral", {Part::kExpertDown, 2, false, 7}),
            "model.layers.2.block_sparse_moe.experts.7.w2.weight");
  EXPECT_EQ(name("granitemoe", {Part::kExpertGateUp, 0}),
            "model.layers.0.block_sparse_moe.input_linear.weight");
  EXPECT_EQ(name("glm4_moe", {Part::kRouterBias, 1}),
            "model.layers.1.mlp.gate.e_score_correction_bias");
}

TEST(WeightNames, OfFalconDependOnItsNorms) {
  const auto norm = [](const std::string& changes) {
    return WeightNamesOf(SmallConfig("falcon", changes))[0].Of(
        {Part::kInputNorm, 0});
  };
  EXPECT_EQ(norm("{}"), "transformer.h.0.input_layernorm.weight");
  EXPECT_EQ(norm(R"({"new_decoder_architecture": true})"),
            "transformer.h.0.ln_attn.weight");
}

TEST(WeightNames, OfAMultimodalModelAreOldOrNew) {
  const auto all = WeightNamesOf(SmallConfig("gemma3"));
  ASSERT_EQ(all.size(), 2);
  EXPECT_EQ(all[0].Of({Part::kEmbedding}),
            "model.language_model.embed_tokens.weight");
  EXPECT_EQ(all[0].Of({Part::kHead}), "lm_head.weight");
  EXPECT_EQ(all[1].Of({Part::kEmbedding}),
            "language_model.model.embed_tokens.weight");
  EXPECT_EQ(all[1].Of({Part::kHead}), "language_model.lm_head.weight");
}

TEST(WeightNames, WhateverStandsBeforeTheDecoder) {
  for (const char* prefix : {"", "model.", "a.b.c."}) {
    EXPECT_THAT(NamesOf("llama").RoleOf(std::string(prefix) +
                                        "layers.1.mlp.up_proj.weight"),
                Eq(WeightRole{Part::kUp, 1}))
        << prefix;
  }
}

TEST(WeightNames, KnowNoOtherTensors) {
  for (const char* name : {"",
                           "weight",
                           "model",
                           "model.embed_tokens",
                           "model.embed_tokens.scale",
                           "model.xembed_tokens.weight",
                           "model.layers.weight",
                           "model.layers..mlp.up_proj.weight",
                           "model.layers.1.weight",
                           "model.layers.x.mlp.up_proj.weight",
                           "model.layers.-1.mlp.up_proj.weight",
                           "model.layers.99999999999.mlp.up_proj.weight",
                           "model.layers.1.mlp.up_proj.lora_A.weight",
                           "model.layers.1.mlp.fc1.weight",
                           "model.layers.1.norm.weight",
                           "model.layers.1.lm_head.weight",
                           "vision_tower.layers.1.mlp.up_proj",
                           "model.vision_tower.layers.1.mlp.up_proj.weight",
                           "audio_tower.embed_tokens.weight",
                           "multi_modal_projector.norm.weight",
                           "model.layers.1.self_attn.rotary_emb.inv_freq"}) {
    EXPECT_EQ(NamesOf("llama").RoleOf(name), std::nullopt) << name;
  }
}

// Part, first row, count, run and stride.
TEST(WeightNames, RowsOfFusedProducts) {
  const auto rows = [](std::string_view family, Part part, int64_t count,
                       const std::string& changes = "{}") {
    const ModelConfig config = SmallConfig(family, changes);
    return WeightNamesOf(config)[0].RowsOf({part, 1}, config, count);
  };
  EXPECT_THAT(rows("llama", Part::kQ, 64),
              ElementsAre(FieldsAre(Part::kQ, 0, 64, 0, 0, -1)));
  EXPECT_THAT(rows("phi3", Part::kQkv, 128),
              ElementsAre(FieldsAre(Part::kQ, 0, 64, 0, 0, -1),
                          FieldsAre(Part::kK, 64, 32, 0, 0, -1),
                          FieldsAre(Part::kV, 96, 32, 0, 0, -1)));
  EXPECT_THAT(rows("phi3", Part::kGateUp, 192),
              ElementsAre(FieldsAre(Part::kGate, 0, 96, 0, 0, -1),
                          FieldsAre(Part::kUp, 96, 96, 0, 0, -1)));
  EXPECT_THAT(rows("falcon", Part::kQkv, 128,
                   R"({"new_decoder_architecture": true, "num_kv_heads": 2})"),
              ElementsAre(FieldsAre(Part::kQ, 0, 64, 32, 64, -1),
                          FieldsAre(Part::kK, 32, 32, 16, 64, -1),
                          FieldsAre(Part::kV, 48, 32, 16, 64, -1)));
  EXPECT_THAT(rows("falcon", Part::kQkv, 96),
              ElementsAre(FieldsAre(Part::kQ, 0, 64, 0, 0, -1),
                          FieldsAre(Part::kK, 64, 16, 0, 0, -1),
                          FieldsAre(Part::kV, 80, 16, 0, 0, -1)));
  // Of all experts, four here.
  EXPECT_THAT(rows("granitemoe", Part::kExpertDown, 256),
              ElementsAre(FieldsAre(Part::kExpertDown, 0, 64, 0, 0, 0),
                          FieldsAre(Part::kExpertDown, 64, 64, 0, 0, 1),
                          FieldsAre(Part::kExpertDown, 128, 64, 0, 0, 2),
                          FieldsAre(Part::kExpertDown, 192, 64, 0, 0, 3)));
  EXPECT_THAT(rows("granitemoe", Part::kExpertGateUp, 64),
              ElementsAre(FieldsAre(Part::kExpertGate, 0, 8, 0, 0, 0),
                          FieldsAre(Part::kExpertUp, 8, 8, 0, 0, 0),
                          FieldsAre(Part::kExpertGate, 16, 8, 0, 0, 1),
                          FieldsAre(Part::kExpertUp, 24, 8, 0, 0, 1),
                          FieldsAre(Part::kExpertGate, 32, 8, 0, 0, 2),
                          FieldsAre(Part::kExpertUp, 40, 8, 0, 0, 2),
                          FieldsAre(Part::kExpertGate, 48, 8, 0, 0, 3),
                          FieldsAre(Part::kExpertUp, 56, 8, 0, 0, 3)));
  // Of another size than the config's: whole.
  EXPECT_THAT(rows("phi3", Part::kQkv, 130),
              ElementsAre(FieldsAre(Part::kQkv, 0, 130, 0, 0, -1)));
  EXPECT_THAT(rows("phi3", Part::kGateUp, 193),
              ElementsAre(FieldsAre(Part::kGateUp, 0, 193, 0, 0, -1)));
}

}  // namespace
}  // namespace verify_tflite
