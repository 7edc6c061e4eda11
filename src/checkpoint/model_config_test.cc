#include "checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

json Minimal() {
  return json::parse(R"({
    "model_type": "llama", "vocab_size": 1000, "hidden_size": 64,
    "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4
  })");
}

ModelConfig Parse(const json& config) {
  return ParseModelConfig(config, "config.json");
}

// Minimal() with `changes` merged in (null stays null).
ModelConfig ParseWith(const std::string& changes) {
  json config = Minimal();
  config.update(json::parse(changes));
  return Parse(config);
}

TEST(ModelConfig, DefaultsAreThoseOfTransformersLlamaConfig) {
  const ModelConfig config = Parse(Minimal());
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.vocab_size, 1000);
  EXPECT_EQ(config.hidden_size, 64);
  EXPECT_EQ(config.intermediate_size, 160);
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_FALSE(config.llama3_rope);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_FALSE(config.o_bias);
  EXPECT_FALSE(config.mlp_bias);
}

TEST(ModelConfig, ReadsWhatIsGiven) {
  const ModelConfig config = ParseWith(R"({
    "num_key_value_heads": 2, "head_dim": 24, "rms_norm_eps": 1e-5,
    "rope_theta": 500000, "max_position_embeddings": 131072,
    "tie_word_embeddings": true, "attention_bias": true, "mlp_bias": true,
    "hidden_act": "swish", "pretraining_tp": 2, "attention_dropout": 0.1
  })");
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 24);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope_theta, 500000);
  EXPECT_EQ(config.max_position_embeddings, 131072);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_TRUE(config.o_bias);
  EXPECT_TRUE(config.mlp_bias);
}

TEST(ModelConfig, NullMeansTheDefault) {
  const ModelConfig config = ParseWith(R"({
    "num_key_value_heads": null, "head_dim": null, "rope_scaling": null,
    "sliding_window": null, "quantization_config": null, "mlp_bias": null
  })");
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
}

TEST(ModelConfig, ExplicitHeadDimNeedNotDivideTheHiddenSize) {
  EXPECT_EQ(ParseWith(R"({"hidden_size": 66, "head_dim": 16})").head_dim, 16);
}

constexpr char kLlama3[] =
    R"("factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0)";

void ExpectLlama3(const ModelConfig& config, double theta, int64_t original) {
  ASSERT_TRUE(config.llama3_rope);
  EXPECT_EQ(config.rope_theta, theta);
  EXPECT_EQ(config.llama3_rope->factor, 8);
  EXPECT_EQ(config.llama3_rope->low_freq_factor, 1);
  EXPECT_EQ(config.llama3_rope->high_freq_factor, 4);
  EXPECT_EQ(config.llama3_rope->original_max_position_embeddings, original);
}

TEST(ModelConfig, Llama3RopeInEveryForm) {
  const std::string scale = kLlama3;
  const std::string original = R"(, "original_max_position_embeddings": 256)";
  ExpectLlama3(
      ParseWith(
          R"({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", )" +
          scale + original + "}}"),
      5e5, 256);
  ExpectLlama3(ParseWith(R"({"rope_scaling": {"type": "llama3", )" + scale +
                         original + "}}"),
               10000, 256);
  ExpectLlama3(
      ParseWith(
          R"({"rope_parameters": {"rope_theta": 2e4, "rope_type": "llama3", )" +
          scale + original + "}}"),
      2e4, 256);
  // When both dictionaries are there, rope_scaling wins.
  ExpectLlama3(ParseWith(R"({"rope_parameters": {"rope_theta": 5},
                             "rope_scaling": {"rope_type": "llama3", )" +
                         scale + original + "}}"),
               10000, 256);
  // Absent: max_position_embeddings; at the top level: it wins.
  ExpectLlama3(
      ParseWith(R"({"rope_scaling": {"rope_type": "llama3", )" + scale + "}}"),
      10000, 2048);
  ExpectLlama3(ParseWith(R"({"original_max_position_embeddings": 512,
                    "rope_scaling": {"rope_type": "llama3", )" +
                         scale + original + "}}"),
               10000, 512);
}

TEST(ModelConfig, DefaultRopeInEveryForm) {
  for (const char* rope :
       {R"({"rope_theta": 2e4})", R"({"rope_theta": 2e4, "rope_scaling": {}})",
        R"({"rope_theta": 2e4, "rope_parameters": {"rope_type": "default"}})",
        R"({"rope_parameters": {"rope_theta": 2e4}})",
        R"({"rope_theta": 7, "rope_parameters":
            {"rope_theta": 2e4, "type": "default",
             "partial_rotary_factor": 1.0}})"}) {
    const ModelConfig config = ParseWith(rope);
    EXPECT_EQ(config.rope_theta, 2e4) << rope;
    EXPECT_FALSE(config.llama3_rope) << rope;
  }
}

struct Bad {
  const char* changes;
  const char* message;
};

TEST(ModelConfig, RefusesWhatItCannotCompute) {
  const Bad cases[] = {
      {R"({"model_type": "gpt2"})",
       R"(model_type "gpt2" is not supported; supported: llama)"},
      {R"({"model_type": null})", R"(model_type "" is not supported)"},
      {R"({"model_type": 7})", "expected a string"},
      {R"({"hidden_act": "relu"})", R"("hidden_act" is "relu")"},
      {R"({"hidden_act": ["silu"]})", "expected a string"},
      {R"({"quantization_config": {"bits": 4}})", "quantization_config"},
      {R"({"layer_types": ["full_attention", "sliding_attention"]})",
       "sliding_attention"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "mscale": -1}})",
       "mscale"},
      {R"({"rope_scaling": {"rope_type": "axial", "factor": 4.0}})",
       R"(rope_type "axial" is not supported; supported: default, llama3, )"
       "linear"},
      {R"({"rope_scaling": {"type": "dynamic"}})", R"(no "factor")"},
      {R"({"rope_scaling": {"type": "linear", "factor": null}})",
       R"(no "factor")"},
      {R"({"rope_scaling": {"type": "yarn"}})", R"(no "factor")"},
      {R"({"rope_scaling": {"type": "yarn", "factor": 2,
          "mrope_section": [1]}})",
       "with mrope_section"},
      {R"({"rope_scaling": {"type": "linear", "factor": 2,
          "partial_rotary_factor": 0.25}})",
       "partial_rotary_factor"},
      {R"({"rope_scaling": {"type": "linear", "factor": 2},
           "partial_rotary_factor": 0.25})",
       "partial_rotary_factor"},
      {R"({"is_causal": false})", "is_causal"},
      {R"({"is_encoder_decoder": true})", "is_encoder_decoder"},
      {R"({"rope_scaling": {"type": "longrope", "factor": 4.0}})",
       R"(rope_type "longrope")"},
      {R"({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}})",
       R"(RoPE of its own for "full_attention")"},
      {R"({"rope_scaling": "llama3"})", "expected an object or null"},
      {R"({"rope_scaling": {"rope_type": 3}})", "expected a string"},
  };
  for (const Bad& bad : cases) {
    EXPECT_THAT([&] { ParseWith(bad.changes); },
                ThrowsMessage<Error>(
                    AllOf(HasSubstr("config.json"), HasSubstr(bad.message))))
        << bad.changes;
  }
}

TEST(ModelConfig, AWindowThatIsNotUsedIsNone) {
  EXPECT_NO_THROW(
      ParseWith(R"({"sliding_window": 4096, "use_sliding_window": false})"));
}

// Families other than Llama. Defaults are those of transformers' config
// classes.

ModelConfig ParseFamily(const std::string& model_type,
                        const std::string& changes = "{}") {
  json config = Minimal();
  config["num_key_value_heads"] = 2U;
  config["model_type"] = model_type;
  config.update(json::parse(changes));
  return Parse(config);
}

std::vector<int64_t> Windows(const ModelConfig& config) {
  std::vector<int64_t> windows;
  for (const LayerConfig& layer : config.layers) {
    windows.push_back(layer.window);
  }
  return windows;
}

using ::testing::ElementsAre;

TEST(ModelConfig, WindowsOfMistralAndPhi3AreOfEveryLayer) {
  EXPECT_THAT(Windows(ParseFamily("mistral")), ElementsAre(4096, 4096, 4096));
  EXPECT_THAT(Windows(ParseFamily("mistral", R"({"sliding_window": null})")),
              ElementsAre(0, 0, 0));
  EXPECT_THAT(Windows(ParseFamily("mistral", R"({"sliding_window": 7})")),
              ElementsAre(7, 7, 7));
  EXPECT_THAT(Windows(ParseFamily("phi3")), ElementsAre(0, 0, 0));
  EXPECT_THAT(Windows(ParseFamily("phi3", R"({"sliding_window": 7})")),
              ElementsAre(7, 7, 7));
  EXPECT_THAT(Windows(ParseFamily("llama")), ElementsAre(0, 0, 0));
}

TEST(SlidingWindowOf, IsThatOfAnyLayer) {
  EXPECT_EQ(SlidingWindowOf(ParseFamily("llama")), std::nullopt);
  EXPECT_EQ(SlidingWindowOf(ParseFamily("mistral")), 4096);
  ModelConfig config = ParseFamily("llama");
  config.layers.back().window = 5;
  EXPECT_EQ(SlidingWindowOf(config), 5);
}

TEST(ModelConfig, WindowsOfQwenStartAtALayer) {
  for (const char* family : {"qwen2", "qwen3"}) {
    EXPECT_THAT(Windows(ParseFamily(family, R"({"sliding_window": 9})")),
                ElementsAre(0, 0, 0));
    const auto used = [&](const std::string& more) {
      return Windows(
          ParseFamily(family, R"({"use_sliding_window": true)" + more + "}"));
    };
    EXPECT_THAT(used(""), ElementsAre(0, 0, 0));  // from layer 28 on
    EXPECT_THAT(used(R"(, "max_window_layers": 0)"),
                ElementsAre(4096, 4096, 4096));
    EXPECT_THAT(used(R"(, "sliding_window": 9, "max_window_layers": 2)"),
                ElementsAre(0, 0, 9));
    EXPECT_THAT(used(R"(, "sliding_window": 9, "layer_types":
        ["sliding_attention", "full_attention", "full_attention"])"),
                ElementsAre(9, 0, 0));
  }
}

TEST(ModelConfig, WindowsOfGemmaAlternate) {
  EXPECT_THAT(Windows(ParseFamily("gemma")), ElementsAre(0, 0, 0));
  EXPECT_THAT(Windows(ParseFamily("gemma2", R"({"sliding_window": 8})")),
              ElementsAre(8, 0, 8));
  EXPECT_THAT(Windows(ParseFamily("gemma3_text", R"({"sliding_window": 8})")),
              ElementsAre(8, 8, 8));
  const ModelConfig config =
      ParseFamily("gemma3_text", R"({"sliding_window_pattern": 2})");
  EXPECT_THAT(Windows(config), ElementsAre(4096, 0, 4096));
  EXPECT_TRUE(config.layers[0].local_rope);
  EXPECT_FALSE(config.layers[1].local_rope);
}

TEST(ModelConfig, LayersOfSmolLm3WithoutRope) {
  const auto rope = [](const std::string& changes) {
    std::vector<bool> found;
    for (const LayerConfig& layer : ParseFamily("smollm3", changes).layers) {
      found.push_back(layer.rope);
    }
    return found;
  };
  EXPECT_THAT(rope("{}"), ElementsAre(true, true, true));
  EXPECT_THAT(rope(R"({"no_rope_layer_interval": 2})"),
              ElementsAre(true, false, true));
  EXPECT_THAT(rope(R"({"no_rope_layers": [0, 1, 1, 0]})"),
              ElementsAre(false, true, true));
  EXPECT_THAT(Windows(ParseFamily("smollm3", R"({"sliding_window": 5,
                  "use_sliding_window": true, "no_rope_layer_interval": 2})")),
              ElementsAre(0, 5, 0));
}

TEST(ModelConfig, WhatGemmaDoesWithoutBeingAsked) {
  const ModelConfig gemma = ParseFamily("gemma", R"({"hidden_act": "gelu"})");
  EXPECT_TRUE(gemma.norm_adds_one);
  EXPECT_TRUE(gemma.tie_word_embeddings);
  EXPECT_EQ(gemma.embedding_scale, 8);
  EXPECT_EQ(gemma.activation, Activation::kGeluTanh);
  EXPECT_EQ(gemma.head_dim, 256);
  EXPECT_EQ(gemma.attention_scale, 1.0 / 16);
  EXPECT_FALSE(gemma.sandwich_norms);
  const ModelConfig gemma2 = ParseFamily("gemma2", R"({"head_dim": 16})");
  EXPECT_EQ(gemma2.attention_scale, 1.0 / 16);  // query_pre_attn_scalar
  EXPECT_EQ(gemma2.attention_softcap, 50);
  EXPECT_EQ(gemma2.logit_softcap, 30);
  EXPECT_TRUE(gemma2.sandwich_norms);
  const ModelConfig none = ParseFamily("gemma2", R"({
    "attn_logit_softcapping": null, "final_logit_softcapping": null})");
  EXPECT_FALSE(none.attention_softcap);
  EXPECT_FALSE(none.logit_softcap);
  EXPECT_FALSE(ParseFamily("gemma3_text").logit_softcap);
}

TEST(ModelConfig, Gemma3HasTwoRopes) {
  const auto expect = [](const std::string& changes, double theta,
                         double factor, double local) {
    const ModelConfig config = ParseFamily("gemma3_text", changes);
    EXPECT_EQ(config.rope_theta, theta) << changes;
    EXPECT_EQ(config.rope_linear_factor, factor) << changes;
    EXPECT_EQ(config.local_rope_theta, local) << changes;
  };
  expect("{}", 1e6, 1, 1e4);
  expect(R"({"rope_theta": 5e5, "rope_local_base_freq": 7e3,
             "rope_scaling": {"rope_type": "linear", "factor": 8}})",
         5e5, 8, 7e3);
  expect(R"({"rope_parameters": {
             "full_attention": {"rope_type": "linear", "factor": 4,
                                "rope_theta": 3e5},
             "sliding_attention": {"rope_theta": 2e3}}})",
         3e5, 4, 2e3);
}

TEST(ModelConfig, TextModelOfAMultimodalOne) {
  json text = Minimal();
  text["model_type"] = "gemma3_text";
  text["num_key_value_heads"] = 2U;
  json config = {{"model_type", "gemma3"}, {"text_config", text}};
  const ModelConfig parsed = Parse(config);
  EXPECT_EQ(parsed.model_type, "gemma3");
  EXPECT_TRUE(parsed.tie_word_embeddings);
  EXPECT_EQ(parsed.hidden_size, 64);
  config["tie_word_embeddings"] = false;
  EXPECT_FALSE(Parse(config).tie_word_embeddings);
  const auto fails = [](const json& bad, const std::string& message) {
    EXPECT_THAT([&] { Parse(bad); }, ThrowsMessage<Error>(HasSubstr(message)));
  };
  json bad = config;
  bad["text_config"]["final_logit_softcapping"] = 30U;
  fails(bad, "final_logit_softcapping");
  bad["text_config"]["final_logit_softcapping"] = nullptr;
  EXPECT_NO_THROW(Parse(bad));
  bad["text_config"]["model_type"] = "gemma2";
  fails(bad, R"("text_config": model_type "gemma2" is not supported)");
  bad["text_config"] = 3;
  fails(bad, "expected an object");
  bad.erase("text_config");
  fails(bad, R"(no "text_config")");
  config["quantization_config"] = {{"bits", 4}};
  fails(config, "quantization_config");
}

// Settings of text models that no model of images and text changes.
TEST(ModelConfig, TextModelOfAnotherFamily) {
  json text = Minimal();
  text["model_type"] = "qwen3";
  text["num_key_value_heads"] = 2U;
  json config = {{"model_type", "internvl"}, {"text_config", text}};
  EXPECT_EQ(Parse(config).model_type, "internvl");
  EXPECT_EQ(Parse(config).text_type, "qwen3");
  EXPECT_THAT(Parse(config).notes, IsEmpty());
  config["vision_config"] = json::object();
  EXPECT_THAT(Parse(config).notes,
              Contains(HasSubstr("\"vision_config\" describes is not")));
  EXPECT_TRUE(Parse(config).qk_norm);
  EXPECT_TRUE(Parse(config).tie_word_embeddings);
  config["text_config"].erase("model_type");  // qwen2
  EXPECT_TRUE(Parse(config).qkv_bias);
  for (const char* other : {"mamba", "gemma3", "internvl"}) {
    config["text_config"]["model_type"] = other;
    EXPECT_THAT([&] { Parse(config); },
                ThrowsMessage<Error>(HasSubstr("is not supported")))
        << other;
  }
}

TEST(ModelConfig, AHeadIsTiedByEitherInSome) {
  for (const auto& [type, both] :
       {std::pair("llava", true), std::pair("llava_next", false)}) {
    json text = Minimal();
    text["model_type"] = "llama";
    text["tie_word_embeddings"] = true;
    const json config = {{"model_type", type}, {"text_config", text}};
    EXPECT_EQ(Parse(config).tie_word_embeddings, both) << type;
  }
}

TEST(ModelConfig, AMultimodalModelHasAHeadOfItsOwn) {
  json text = Minimal();
  text["model_type"] = "cohere2";
  text["logit_scale"] = 0.25;
  const json config = {{"model_type", "aya_vision"}, {"text_config", text}};
  const ModelConfig parsed = Parse(config);
  EXPECT_EQ(parsed.logit_divisor, 1);
  EXPECT_THAT(parsed.notes, Contains(HasSubstr("that of aya_vision does not")));
}

TEST(ModelConfig, Qwen2VlAsOlderFilesHaveIt) {
  json config = Minimal();
  config["model_type"] = "qwen2_vl";
  config["num_key_value_heads"] = 2U;
  config["rope_scaling"] = {{"type", "mrope"}, {"mrope_section", {2U, 3U, 3U}}};
  const ModelConfig parsed = Parse(config);
  EXPECT_EQ(parsed.text_type, "qwen2_vl_text");
  EXPECT_EQ(parsed.rope_theta, 1e6);
  EXPECT_EQ(parsed.rms_norm_eps, 1e-5);
  EXPECT_THAT(parsed.notes, IsEmpty());
  config["rope_scaling"]["type"] = "yarn";
  EXPECT_THAT([&] { Parse(config); },
              ThrowsMessage<Error>(HasSubstr("mrope_section")));
}

json Gemma4() {
  json config = Minimal();
  config.update(json::parse(R"({
    "model_type": "gemma4_text", "num_hidden_layers": 6,
    "num_key_value_heads": 2, "head_dim": 16})"));
  return config;
}

ModelConfig ParseGemma4(const std::string& changes) {
  json config = Gemma4();
  config.update(json::parse(changes));
  return Parse(config);
}

json Lfm2() {
  return json::parse(R"({"model_type": "lfm2", "vocab_size": 1000,
      "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
      "num_key_value_heads": 2, "intermediate_size": 1000})");
}

ModelConfig ParseLfm2(const std::string& changes) {
  json config = Lfm2();
  config.update(json::parse(changes));
  return Parse(config);
}

std::vector<bool> Convolutions(const ModelConfig& config) {
  std::vector<bool> conv;
  for (const LayerConfig& layer : config.layers) conv.push_back(layer.conv);
  return conv;
}

TEST(ModelConfig, DefaultsAreThoseOfTransformersLfm2Config) {
  const ModelConfig config = Parse(Lfm2());
  EXPECT_EQ(config.conv_taps, 3);
  EXPECT_FALSE(config.conv_bias);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_EQ(config.max_position_embeddings, 128000);
  // int(2 * 1000 / 3), up to a multiple of 256.
  EXPECT_EQ(config.intermediate_size, 768);
  EXPECT_THAT(Convolutions(config), ElementsAre(false, false, false, false));
  EXPECT_EQ(NumKvLayers(config), 4);
}

TEST(ModelConfig, LayersOfLfm2AreConvolutionsBySeveralKeys) {
  const ModelConfig config = ParseLfm2(R"({"full_attn_idxs": [1, 9]})");
  EXPECT_THAT(Convolutions(config), ElementsAre(true, false, true, true));
  EXPECT_EQ(NumKvLayers(config), 1);
  EXPECT_EQ(config.layers[0].head_dim, 64);
  EXPECT_EQ(config.layers[1].head_dim, 16);
  // "layer_types" wins.
  EXPECT_THAT(Convolutions(ParseLfm2(
                  R"({"full_attn_idxs": [1], "layer_types": ["full_attention",
                      "conv", "conv", "full_attention"]})")),
              ElementsAre(false, true, true, false));
  for (const char* changes :
       {R"({"layer_types": ["conv", "conv", "conv"]})",
        R"({"layer_types": ["conv", "conv", "conv", "sliding_attention"]})",
        R"({"full_attn_idxs": 1})", R"({"full_attn_idxs": [-1]})"}) {
    EXPECT_THROW(ParseLfm2(changes), Error) << changes;
  }
}

TEST(ModelConfig, SizesOfLfm2AreAdjusted) {
  const auto size = [](const std::string& changes) {
    return ParseLfm2(changes).intermediate_size;
  };
  EXPECT_EQ(size(R"({"block_auto_adjust_ff_dim": false})"), 1000);
  EXPECT_EQ(size(R"({"block_multiple_of": 10})"), 670);
  EXPECT_EQ(size(R"({"block_multiple_of": 1})"), 666);
  EXPECT_EQ(size(R"({"block_ffn_dim_multiplier": 1.5,
                     "block_multiple_of": 1})"),
            999);
  EXPECT_EQ(size(R"({"block_ffn_dim_multiplier": null})"), 666);
  // Names of the first files win, as in transformers.
  EXPECT_EQ(size(R"({"block_ff_dim": 600, "block_multiple_of": 1})"), 400);
  EXPECT_FALSE(ParseLfm2(R"({"tie_embedding": false,
                             "tie_word_embeddings": true})")
                   .tie_word_embeddings);
  EXPECT_EQ(ParseLfm2(R"({"conv_L_cache": 4})").conv_taps, 4);
  for (const char* changes :
       {R"({"conv_L_cache": 1})", R"({"intermediate_size": 1})",
        R"({"conv_bias": 1})", R"({"block_multiple_of": 0})"}) {
    EXPECT_THROW(ParseLfm2(changes), Error) << changes;
  }
}

TEST(ModelConfig, ActivationOfLfm2IsSiluWhateverItSays) {
  const ModelConfig config = ParseLfm2(R"({"hidden_act": "gelu"})");
  EXPECT_EQ(config.activation, Activation::kSilu);
  EXPECT_THAT(config.notes, ElementsAre(HasSubstr("\"hidden_act\"")));
}

TEST(ModelConfig, DefaultsAreThoseOfTransformersGemma4TextConfig) {
  const ModelConfig config = Parse(Gemma4());
  EXPECT_EQ(config.attention_scale, 1);
  EXPECT_EQ(config.embedding_scale, 8);
  EXPECT_EQ(config.per_layer_size, 256);
  EXPECT_EQ(config.per_layer_vocab_size, 262144);
  EXPECT_FALSE(config.logit_softcap);
  EXPECT_FALSE(config.norm_adds_one);
  EXPECT_TRUE(config.v_norm);
  EXPECT_TRUE(config.layer_scalar);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.local_rope_theta, 1e4);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_EQ(config.rotary_dim, 512);
  EXPECT_EQ(config.rotating_pairs, 64);
  EXPECT_EQ(config.local_rotary_dim, 16);
  EXPECT_EQ(NumKvLayers(config), 6);
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    EXPECT_EQ(layer.window, i < 5 ? 512 : 0);
    EXPECT_EQ(layer.head_dim, i < 5 ? 16 : 512);
    EXPECT_EQ(layer.num_kv_heads, 2);
    EXPECT_FALSE(layer.keys_are_values);
  }
}

TEST(ModelConfig, FullLayersOfGemma4HaveHeadsOfTheirOwn) {
  const std::string old = R"({"global_head_dim": 32, "attention_k_eq_v": true,
      "num_global_key_value_heads": 1, "hidden_size_per_layer_input": 0})";
  const std::string by_layer = R"({"attention_k_eq_v": true,
      "per_layer_config": {"5": {"head_dim": 32, "num_key_value_heads": 1}},
      "global_head_dim": 64, "hidden_size_per_layer_input": null})";
  for (const std::string& changes : {old, by_layer}) {
    const ModelConfig config = ParseGemma4(changes);
    EXPECT_EQ(config.layers[5].head_dim, 32);
    EXPECT_EQ(config.layers[5].num_kv_heads, 1);
    EXPECT_TRUE(config.layers[5].keys_are_values);
    EXPECT_EQ(config.layers[4].head_dim, 16);
    EXPECT_EQ(config.layers[4].num_kv_heads, 2);
    EXPECT_FALSE(config.layers[4].keys_are_values);
    EXPECT_EQ(config.rotary_dim, 32);
    EXPECT_EQ(config.rotating_pairs, 4);
    EXPECT_EQ(config.per_layer_size, 0);
  }
  // Without k = v the number of KV heads is that of all.
  EXPECT_EQ(ParseGemma4(R"({"num_global_key_value_heads": 1})")
                .layers[5]
                .num_kv_heads,
            2);
}

TEST(ModelConfig, LastLayersOfGemma4ShareKeys) {
  const ModelConfig config = ParseGemma4(R"({"num_kv_shared_layers": 3,
      "use_double_wide_mlp": true, "layer_types": ["sliding_attention",
      "full_attention", "sliding_attention", "full_attention",
      "sliding_attention", "full_attention"]})");
  EXPECT_EQ(NumKvLayers(config), 3);
  const int64_t sources[] = {-1, -1, -1, 1, 2, 1};
  for (size_t i = 0; i < config.layers.size(); ++i) {
    EXPECT_EQ(config.layers[i].kv_source, sources[i]) << i;
    EXPECT_EQ(config.layers[i].intermediate_size, i < 3 ? 160 : 320) << i;
  }
  EXPECT_EQ(config.intermediate_size, 320);
}

TEST(ModelConfig, LastLayerOfGemma4IsFull) {
  const ModelConfig config = ParseGemma4(R"({"num_hidden_layers": 4})");
  EXPECT_EQ(config.layers[3].window, 0);
  EXPECT_EQ(config.layers[3].head_dim, 512);
  EXPECT_EQ(config.notes.size(), 1);
}

TEST(ModelConfig, RefusesGemma4sOf) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"enable_moe_block": true})", "enable_moe_block"},
      {R"({"use_bidirectional_attention": "all"})", "use_bidirectional"},
      {R"({"num_kv_shared_layers": 6})", "num_kv_shared_layers"},
      // No full layer before them.
      {R"({"num_kv_shared_layers": 1})", "num_kv_shared_layers"},
      {R"({"per_layer_config": null})", "per_layer_config"},
      {R"({"per_layer_config": {"6": {"head_dim": 32}}})", "per_layer_config"},
      {R"({"per_layer_config": {"full": {"head_dim": 32}}})",
       "per_layer_config"},
      {R"({"per_layer_config": {"5": {"sliding_window": 3}}})",
       "sliding_window"},
      {R"({"per_layer_config": {"1": {"head_dim": 32}}})", "layer 1"},
      {R"({"per_layer_config": {"5": {"num_key_value_heads": 3}}})", "layer 5"},
      {R"({"rope_theta": 10000})", "rope_theta"},
      {R"({"rope_scaling": {"rope_type": "linear"}})", "rope_scaling"},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "default",
          "rope_theta": 10000}}})",
       "rope_parameters"},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "yarn",
          "rope_theta": 10000}}})",
       "\"yarn\" is not supported"},
      {R"({"quantization_config": {"bits": 4}})", "quantization_config"},
  };
  for (const auto& [changes, message] : cases) {
    EXPECT_THAT([&] { ParseGemma4(changes); },
                ThrowsMessage<Error>(HasSubstr(message)))
        << changes;
  }
  EXPECT_NO_THROW(ParseGemma4(R"({"use_bidirectional_attention": "vision"})"));
}

json Gemma3n() {
  json config = Minimal();
  config.update(json::parse(R"({
    "model_type": "gemma3n_text", "num_hidden_layers": 20,
    "num_key_value_heads": 2, "head_dim": 16})"));
  return config;
}

ModelConfig ParseGemma3n(const std::string& changes) {
  json config = Gemma3n();
  config.update(json::parse(changes));
  return Parse(config);
}

TEST(ModelConfig, DefaultsAreThoseOfTransformersGemma3nTextConfig) {
  const ModelConfig config = Parse(Gemma3n());
  EXPECT_EQ(config.attention_scale, 1);
  EXPECT_EQ(config.embedding_scale, 8);
  EXPECT_EQ(config.per_layer_size, 256);
  EXPECT_EQ(config.per_layer_vocab_size, 262144);
  EXPECT_EQ(config.logit_softcap, 30);
  EXPECT_EQ(config.num_streams, 4);
  EXPECT_EQ(config.active_stream, 0);
  EXPECT_TRUE(config.stream_scale);
  EXPECT_EQ(config.laurel_rank, 64);
  EXPECT_FALSE(config.norm_adds_one);
  EXPECT_TRUE(config.v_norm);
  EXPECT_FALSE(config.layer_scalar);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.local_rope_theta, 1e4);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_EQ(config.max_position_embeddings, 32768);
  EXPECT_EQ(NumKvLayers(config), 5);
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    EXPECT_EQ(layer.window, i % 5 == 4 ? 0 : 512) << i;
    EXPECT_EQ(layer.kv_source, i < 5 ? -1 : i % 5 == 4 ? 4 : 3) << i;
    EXPECT_EQ(layer.sparsity, i < 10 ? 0.95 : 0) << i;
    EXPECT_EQ(layer.intermediate_size, 160) << i;
  }
  // No more than ten layers are dense.
  EXPECT_EQ(ParseGemma3n(R"({"num_hidden_layers": 10,
                             "num_kv_shared_layers": 0})")
                .layers[0]
                .sparsity,
            0);
}

TEST(ModelConfig, LayersOfGemma3nDiffer) {
  const ModelConfig config = ParseGemma3n(R"({"num_hidden_layers": 4,
      "num_kv_shared_layers": 0, "intermediate_size": [8, 32, 16, 16],
      "activation_sparsity_pattern": [0.9, 0, 0.5, 0.0]})");
  EXPECT_EQ(config.intermediate_size, 32);
  const int64_t sizes[] = {8, 32, 16, 16};
  const double shares[] = {0.9, 0, 0.5, 0};
  for (size_t i = 0; i < config.layers.size(); ++i) {
    EXPECT_EQ(config.layers[i].intermediate_size, sizes[i]) << i;
    EXPECT_EQ(config.layers[i].sparsity, shares[i]) << i;
  }
}

TEST(ModelConfig, RefusesGemma3nsOf) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"num_kv_shared_layers": 20})", "num_kv_shared_layers"},
      // No full layer before them.
      {R"({"num_kv_shared_layers": 17})", "num_kv_shared_layers"},
      {R"({"num_kv_shared_layers": null})", "num_kv_shared_layers"},
      {R"({"altup_num_inputs": 1})", "altup_num_inputs"},
      {R"({"altup_active_idx": 4})", "altup_active_idx"},
      {R"({"altup_correct_scale": null})", "altup_correct_scale"},
      {R"({"laurel_rank": 0})", "laurel_rank"},
      {R"({"hidden_size_per_layer_input": 0})", "hidden_size_per_layer_input"},
      {R"({"intermediate_size": [160, 160]})", "intermediate_size"},
      {R"({"activation_sparsity_pattern": [0.5]})", "activation_sparsity"},
      {R"({"activation_sparsity_pattern": 0.5})", "activation_sparsity"},
      {R"({"num_hidden_layers": 2, "num_kv_shared_layers": 0,
           "activation_sparsity_pattern": [0.5, 1.0]})",
       "activation_sparsity"},
      {R"({"num_hidden_layers": 2, "num_kv_shared_layers": 0,
           "activation_sparsity_pattern": [0.5, "none"]})",
       "activation_sparsity"},
      {R"({"rope_parameters": {"sliding_attention": {"rope_type": "linear",
          "factor": 2}}})",
       "rope_type other than default"},
      {R"({"quantization_config": {"bits": 4}})", "quantization_config"},
  };
  for (const auto& [changes, message] : cases) {
    EXPECT_THAT([&] { ParseGemma3n(changes); },
                ThrowsMessage<Error>(HasSubstr(message)))
        << changes;
  }
}

TEST(ModelConfig, Gemma3nInsideAMultimodalModel) {
  json config = {{"model_type", "gemma3n"}, {"text_config", Gemma3n()}};
  EXPECT_THAT(Parse(config).notes, IsEmpty());
  config["text_config"]["intermediate_size"] = std::vector<unsigned>(20, 24);
  config["vision_config"] = {{"vocab_offset", 90U}};
  config["text_config"]["vocab_size"] = 100U;
  const ModelConfig parsed = Parse(config);
  EXPECT_EQ(parsed.model_type, "gemma3n");
  EXPECT_EQ(parsed.layers[7].intermediate_size, 24);
  EXPECT_THAT(parsed.notes,
              ElementsAre(AllOf(HasSubstr("the text model alone"),
                                HasSubstr("\"vision_config\" describes")),
                          HasSubstr("tokens from 90 on")));
  config["audio_config"] = json::object();
  EXPECT_THAT(Parse(config).notes[0],
              HasSubstr("\"audio_config\" and \"vision_config\" describe is"));
}

constexpr char kLongRope[] = R"({
  "max_position_embeddings": 8192, "original_max_position_embeddings": 512,
  "partial_rotary_factor": 0.5, "rope_scaling": {"type": "longrope",
  "short_factor": [1, 2, 3, 4], "long_factor": [5, 6, 7, 8]}})";

TEST(ModelConfig, LongRopeOfPhi3) {
  const ModelConfig config = ParseFamily("phi3", kLongRope);
  ASSERT_TRUE(config.long_rope);
  EXPECT_EQ(config.rotary_dim, 8);
  EXPECT_THAT(config.long_rope->short_factor, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(config.long_rope->long_factor, ElementsAre(5, 6, 7, 8));
  EXPECT_EQ(config.long_rope->original_max_position_embeddings, 512);
  // sqrt(1 + ln(8192 / 512) / ln(512))
  EXPECT_NEAR(config.rope_attention_factor, 1.2018504251546631, 1e-15);
}

TEST(ModelConfig, YarnSuggestsAnAttentionFactor) {
  const ModelConfig config =
      ParseWith(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})");
  ASSERT_TRUE(config.yarn_rope);
  EXPECT_EQ(config.yarn_rope->beta_fast, 32);
  EXPECT_EQ(config.yarn_rope->beta_slow, 1);
  EXPECT_EQ(config.yarn_rope->original_max_position_embeddings, 2048);
  // 0.1 ln(4) + 1
  EXPECT_NEAR(config.rope_attention_factor, 1.1386294361119891, 1e-15);
}

// LlamaConfig(max_position_embeddings=2048, rope_parameters={"rope_type":
// "yarn", "rope_theta": 10000.0, "original_max_position_embeddings": 64,
// "factor": None}) of transformers 5.24: factor 32, attention factor below.
TEST(ModelConfig, YarnWithoutAFactorHasTheRatioOfTheLengths) {
  const ModelConfig config = ParseWith(
      R"({"rope_parameters": {"rope_type": "yarn", "factor": null,
          "original_max_position_embeddings": 64}})");
  ASSERT_TRUE(config.yarn_rope);
  EXPECT_EQ(config.yarn_rope->factor, 32);
  EXPECT_NEAR(config.rope_attention_factor, 1.3465735902799727, 1e-15);
  const ModelConfig shorter = ParseWith(
      R"({"rope_parameters": {"rope_type": "yarn", "factor": null,
          "original_max_position_embeddings": 4096}})");
  EXPECT_EQ(shorter.rope_attention_factor, 1);
}

TEST(ModelConfig, YarnWithMscale) {
  const auto factor = [](const std::string& more) {
    return ParseWith(
               R"({"rope_scaling": {"rope_type": "yarn", "factor": 16.0, )" +
               more + "}}")
        .rope_attention_factor;
  };
  // get_mscale of transformers' _compute_yarn_parameters: needs both, and
  // gives way to attention_factor.
  const double usual = 1.2772588722239782;
  EXPECT_NEAR(factor(R"("mscale": 1.7, "mscale_all_dim": 0.4)"),
              1.3244534903605696, 1e-15);
  EXPECT_NEAR(factor(R"("mscale": 1.7)"), usual, 1e-15);
  EXPECT_NEAR(factor(R"("mscale": 1.7, "mscale_all_dim": 0)"), usual, 1e-15);
  EXPECT_EQ(factor(R"("mscale": 2, "mscale_all_dim": 1, "attention_factor":
                      0.5)"),
            0.5);
}

TEST(ModelConfig, DynamicRopeKeepsTheFrequencies) {
  const ModelConfig config =
      ParseWith(R"({"rope_scaling": {"type": "dynamic", "factor": 4.0}})");
  EXPECT_TRUE(config.dynamic_rope);
  EXPECT_EQ(config.rope_theta, 10000);
}

// FalconConfig's defaults; its files have few of the usual keys.
ModelConfig ParseFalcon(const std::string& changes) {
  json config = Minimal();
  config["model_type"] = "falcon";
  config.erase("intermediate_size");
  config.update(json::parse(changes));
  return Parse(config);
}

TEST(ModelConfig, FalconsThreeBlocks) {
  const ModelConfig multi_query = ParseFalcon(R"({"num_kv_heads": 4})");
  EXPECT_EQ(multi_query.layers[2].num_kv_heads, 1);
  EXPECT_EQ(multi_query.intermediate_size, 256);
  EXPECT_EQ(multi_query.rms_norm_eps, 1e-5);
  EXPECT_EQ(multi_query.activation, Activation::kGelu);
  EXPECT_TRUE(multi_query.tie_word_embeddings);
  EXPECT_TRUE(multi_query.layer_norm);
  EXPECT_TRUE(multi_query.parallel_block);
  EXPECT_FALSE(multi_query.mlp_norm);
  EXPECT_FALSE(multi_query.qkv_bias);
  EXPECT_TRUE(multi_query.layers[0].rope);

  const ModelConfig newer = ParseFalcon(
      R"({"new_decoder_architecture": true, "num_kv_heads": 2, "bias": true,
          "ffn_hidden_size": 100})");
  EXPECT_EQ(newer.layers[0].num_kv_heads, 2);
  EXPECT_EQ(newer.layers[0].intermediate_size, 100);
  EXPECT_TRUE(newer.mlp_norm);
  EXPECT_TRUE(newer.qkv_bias);
  EXPECT_TRUE(newer.o_bias);
  EXPECT_TRUE(newer.mlp_bias);
  EXPECT_FALSE(ParseFalcon(R"({"new_decoder_architecture": true,
                               "num_ln_in_parallel_attn": 1})")
                   .mlp_norm);

  const ModelConfig alibi = ParseFalcon(
      R"({"alibi": true, "multi_query": false, "parallel_attn": false})");
  EXPECT_EQ(alibi.layers[0].num_kv_heads, 4);
  EXPECT_FALSE(alibi.parallel_block);
  EXPECT_TRUE(alibi.mlp_norm);
  EXPECT_TRUE(alibi.alibi);
  EXPECT_FALSE(alibi.layers[0].rope);
}

TEST(ModelConfig, GranitesFactors) {
  const ModelConfig usual = ParseFamily("granite");
  EXPECT_EQ(usual.attention_scale, 1);  // not 1 / sqrt(head_dim)
  EXPECT_EQ(usual.embedding_scale, 1);
  EXPECT_EQ(usual.residual_scale, 1);
  EXPECT_EQ(usual.logit_divisor, 1);
  const ModelConfig config = ParseFamily(
      "granite", R"({"embedding_multiplier": 12, "residual_multiplier": 0.22,
                     "attention_multiplier": 0.015625, "logits_scaling": 8})");
  EXPECT_EQ(config.attention_scale, 0.015625);
  EXPECT_EQ(config.embedding_scale, 12);
  EXPECT_EQ(config.residual_scale, 0.22);
  EXPECT_EQ(config.logit_divisor, 8);
}

TEST(ModelConfig, HyperClovaXsFactorsAndNorms) {
  const ModelConfig usual = ParseFamily("hyperclovax");
  EXPECT_EQ(usual.attention_scale, 0.25);
  EXPECT_TRUE(usual.sandwich_norms);
  const ModelConfig config = ParseFamily(
      "hyperclovax", R"({"logits_scaling": 0.5, "attention_multiplier": 0.3,
                         "use_post_norm": false})");
  EXPECT_EQ(config.logit_divisor, 2);  // Granite's divides
  EXPECT_EQ(config.attention_scale, 0.3);
  EXPECT_FALSE(config.sandwich_norms);
}

TEST(ModelConfig, NamesOfTheirOwnForTheUsualKeys) {
  json config = Minimal();
  config.erase("num_hidden_layers");
  config.update(json::parse(R"({"model_type": "exaone", "num_layers": 5,
    "num_key_value_heads": 2, "layer_norm_epsilon": 0.001,
    "activation_function": "gelu"})"));
  const ModelConfig exaone = Parse(config);
  EXPECT_EQ(exaone.num_layers, 5);
  EXPECT_EQ(exaone.rms_norm_eps, 0.001);
  EXPECT_EQ(exaone.activation, Activation::kGelu);
  const ModelConfig biased =
      ParseFamily("internlm3", R"({"qkv_bias": true, "bias": true})");
  EXPECT_TRUE(biased.qkv_bias && biased.o_bias && biased.mlp_bias);
}

TEST(ModelConfig, Olmo2HasNoNormsBeforeItsBlocks) {
  const ModelConfig config = ParseFamily("olmo2");
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_FALSE(config.input_norm);
  EXPECT_FALSE(config.mlp_norm);
  EXPECT_TRUE(config.sandwich_norms);
  EXPECT_TRUE(config.qk_norm_of_all_heads);
  EXPECT_EQ(config.attention_scale, 0.25);
}

std::vector<bool> Ropes(const ModelConfig& config) {
  std::vector<bool> ropes;
  for (const LayerConfig& layer : config.layers) ropes.push_back(layer.rope);
  return ropes;
}

TEST(ModelConfig, MinistralsWindowsAreOfTheLayersThatSaySo) {
  EXPECT_THAT(Windows(ParseFamily("ministral")), ElementsAre(4096, 4096, 4096));
  EXPECT_THAT(Windows(ParseFamily("ministral", R"({"sliding_window": null})")),
              ElementsAre(0, 0, 0));
  EXPECT_THAT(Windows(ParseFamily("ministral", R"({
                "sliding_window": 7,
                "layer_types": ["full_attention", "sliding_attention",
                                "full_attention"]})")),
              ElementsAre(0, 7, 0));
}

TEST(ModelConfig, Ministral3ScalesQueriesAndHasYarnWithoutBeingAsked) {
  const ModelConfig usual = ParseFamily("ministral3");
  ASSERT_TRUE(usual.query_scaling && usual.yarn_rope);
  EXPECT_EQ(usual.query_scaling->beta, 0.1);
  EXPECT_EQ(usual.query_scaling->original_max_position_embeddings, 16384);
  EXPECT_EQ(usual.yarn_rope->factor, 16);
  EXPECT_EQ(usual.rope_theta, 1e6);
  EXPECT_EQ(usual.rope_attention_factor, 1);
  EXPECT_THAT(Windows(usual), ElementsAre(0, 0, 0));
  const ModelConfig plain = ParseFamily("ministral3", R"({"rope_parameters": {
    "rope_type": "default", "rope_theta": 5000, "llama_4_scaling_beta": 0.3,
    "original_max_position_embeddings": 48}})");
  EXPECT_FALSE(plain.yarn_rope);
  EXPECT_EQ(plain.query_scaling->beta, 0.3);
  EXPECT_EQ(plain.query_scaling->original_max_position_embeddings, 48);
  // Beside YaRN's settings, it is moved there.
  const ModelConfig outside = ParseFamily("ministral3", R"({
    "original_max_position_embeddings": 99, "rope_parameters": {
      "rope_type": "yarn", "factor": 2, "llama_4_scaling_beta": 0.3,
      "original_max_position_embeddings": 48}})");
  EXPECT_EQ(outside.query_scaling->original_max_position_embeddings, 99);
}

TEST(ModelConfig, LayersWithoutAWindowHaveNoRopeWhereOthersHaveOne) {
  for (const char* family : {"exaone4", "cohere2"}) {
    const ModelConfig config = ParseFamily(
        family, R"({"sliding_window": 9, "sliding_window_pattern": 2})");
    EXPECT_THAT(Windows(config), ElementsAre(9, 0, 9)) << family;
    EXPECT_THAT(Ropes(config), ElementsAre(true, false, true)) << family;
  }
  const std::string full = R"("layer_types": ["full_attention",
    "full_attention", "full_attention"], "sliding_window_pattern": "LLLG")";
  const ModelConfig none =
      ParseFamily("exaone4", R"({"sliding_window": null, )" + full + "}");
  EXPECT_THAT(Ropes(none), ElementsAre(true, true, true));
  const ModelConfig all =
      ParseFamily("exaone4", R"({"sliding_window": 9, )" + full + "}");
  EXPECT_THAT(Ropes(all), ElementsAre(false, false, false));
}

TEST(ModelConfig, HunYuansAlphaScalesTheBase) {
  const auto theta = [](const std::string& more) {
    return ParseFamily("hunyuan_v1_dense",
                       R"({"head_dim": 16, "rope_scaling": {
                           "type": "dynamic", "factor": 1)" +
                           more + "}}");
  };
  const ModelConfig scaled = theta(R"(, "alpha": 1000)");
  EXPECT_NEAR(scaled.rope_theta, 1e4 * std::pow(1000.0, 16.0 / 14), 1);
  EXPECT_FALSE(scaled.dynamic_rope);
  const ModelConfig dynamic = theta("");
  EXPECT_EQ(dynamic.rope_theta, 1e4);
  EXPECT_TRUE(dynamic.dynamic_rope);
  EXPECT_TRUE(scaled.qk_norm_after_rope);
}

TEST(ModelConfig, BiasesOfFamiliesWithSettingsOfTheirOwn) {
  const auto biases = [](const char* family, const std::string& changes) {
    const ModelConfig c = ParseFamily(family, changes);
    return std::vector<bool>{c.qkv_bias, c.o_bias, c.mlp_bias};
  };
  EXPECT_THAT(biases("seed_oss", "{}"), ElementsAre(true, false, false));
  EXPECT_THAT(biases("seed_oss", R"({"attention_bias": false,
                     "attention_out_bias": true, "mlp_bias": true})"),
              ElementsAre(false, true, true));
  EXPECT_THAT(biases("starcoder2", "{}"), ElementsAre(true, true, true));
  EXPECT_THAT(biases("starcoder2", R"({"use_bias": false})"),
              ElementsAre(false, false, false));
  EXPECT_THAT(biases("glm", "{}"), ElementsAre(true, false, false));
  EXPECT_THAT(biases("ernie4_5", R"({"use_bias": true})"),
              ElementsAre(true, true, true));
  EXPECT_THAT(biases("helium", R"({"attention_bias": true})"),
              ElementsAre(true, false, false));
  EXPECT_THAT(biases("jais2", "{}"), ElementsAre(true, true, true));
  EXPECT_THAT(biases("jais2", R"({"attention_bias": false,
                     "mlp_bias": false})"),
              ElementsAre(false, false, false));
}

TEST(ModelConfig, WhichFamiliesTurnNeighbours) {
  std::vector<std::string> turning;
  for (const char* family : {"llama", "glm", "glm4", "cohere", "cohere2",
                             "ernie4_5", "helium", "olmo", "apertus"}) {
    if (ParseFamily(family).interleaved_rope) turning.push_back(family);
  }
  EXPECT_THAT(turning, ElementsAre("glm", "glm4", "cohere", "cohere2",
                                   "ernie4_5", "helium"));
  EXPECT_EQ(ParseFamily("glm").rotary_dim, 64);  // half of 128
}

TEST(ModelConfig, CoheresBlock) {
  const ModelConfig config = ParseFamily("cohere");
  EXPECT_EQ(config.logit_divisor, 16);
  EXPECT_TRUE(config.layer_norm && config.parallel_block);
  EXPECT_FALSE(config.norm_bias || config.mlp_norm);
  EXPECT_EQ(config.rope_theta, 500000);
  EXPECT_EQ(ParseFamily("cohere2", R"({"logit_scale": 0.5})").logit_divisor, 2);
}

TEST(ModelConfig, Olmo3HasTwoRopesOfWhichOneSettingReachesOne) {
  const ModelConfig config = ParseFamily("olmo3", R"({"rope_theta": 1234,
    "sliding_window": 9, "rope_scaling": {
      "rope_type": "yarn", "factor": 8,
      "original_max_position_embeddings": 64}})");
  EXPECT_EQ(config.rope_theta, 1234);
  EXPECT_EQ(config.local_rope_theta, 500000);
  EXPECT_TRUE(config.yarn_rope);
  EXPECT_TRUE(config.layers[0].local_rope);
  EXPECT_THAT(Windows(config), ElementsAre(9, 9, 9));
}

TEST(ModelConfig, ApertusHasLlama3RopeAndXieluWithoutBeingAsked) {
  const ModelConfig config = ParseFamily("apertus");
  ASSERT_TRUE(config.llama3_rope);
  EXPECT_EQ(config.llama3_rope->factor, 8);
  EXPECT_EQ(config.rope_theta, 12e6);
  EXPECT_EQ(config.activation, Activation::kXielu);
  EXPECT_EQ(ParseFamily("apertus", R"({"hidden_act": "silu"})").activation,
            Activation::kSilu);
  // Given but empty, it is the default of all families.
  const ModelConfig plain =
      ParseFamily("apertus", R"({"rope_parameters": {}})");
  EXPECT_FALSE(plain.llama3_rope);
}

json OpenElm() {
  return json::parse(R"({
    "model_type": "openelm", "vocab_size": 1000, "model_dim": 1280,
    "head_dim": 64, "num_transformer_layers": 3,
    "num_query_heads": [12, 16, 20], "num_kv_heads": [3, 4, 5],
    "ffn_multipliers": [0.5, 0.73, 4.0], "ffn_dim_divisor": 256,
    "normalize_qk_projections": true, "share_input_output_layers": true
  })");
}

TEST(ModelConfig, OpenElmsLayersDiffer) {
  const ModelConfig config = Parse(OpenElm());
  ASSERT_EQ(config.layers.size(), 3);
  EXPECT_EQ(config.layers[1].num_heads, 16);
  EXPECT_EQ(config.layers[1].num_kv_heads, 4);
  // As OpenELM-270M's files have it: 640 is made divisible by 256.
  EXPECT_EQ(config.layers[0].intermediate_size, 768);
  EXPECT_EQ(config.layers[1].intermediate_size, 1024);
  EXPECT_EQ(config.layers[2].intermediate_size, 5120);
  EXPECT_EQ(config.num_heads, 20);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_TRUE(config.gated_mlp);
}

TEST(ModelConfig, RefusesOpenElmsOf) {
  const Bad cases[] = {
      {R"({"num_query_heads": [12, 16]})", "an array of 3"},
      {R"({"num_query_heads": 12})", "an array of 3"},
      {R"({"num_query_heads": null})", R"(no "num_query_heads")"},
      {R"({"num_kv_heads": [3, 4, 0]})", "num_kv_heads"},
      {R"({"num_kv_heads": [3, 4, 1e30]})", "num_kv_heads"},
      {R"({"num_kv_heads": [3, 4, 6]})", "20 of layer 2 is no multiple"},
      {R"({"ffn_multipliers": 4.0})", "an array of 3"},
      {R"({"ffn_multipliers": [1, 1, -1]})", "ffn_multipliers"},
      {R"({"ffn_multipliers": [1, 1, "1"]})", "ffn_multipliers"},
      {R"({"ffn_dim_divisor": 0})", "ffn_dim_divisor"},
      {R"({"ffn_with_glu": false})", "ffn_with_glu"},
      {R"({"num_transformer_layers": 1000000})", "num_transformer_layers"},
      {R"({"head_dim": 63})", "head_dim 63 is odd"},
      {R"({"normalization_layer_name": "layer_norm"})", "rms_norm"},
      {R"({"activation_fn_name": "relu"})", "activation_fn_name"},
      {R"({"quantization_config": {"bits": 4}})", "quantization_config"},
  };
  for (const Bad& bad : cases) {
    json config = OpenElm();
    config.update(json::parse(bad.changes));
    EXPECT_THAT([&] { Parse(config); },
                ThrowsMessage<Error>(
                    AllOf(HasSubstr("config.json"), HasSubstr(bad.message))))
        << bad.changes;
  }
}

// Four experts, of which two are taken.
std::string WithExperts(const std::string& changes = "{}") {
  json config = json::parse(R"({
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48
  })");
  config.update(json::parse(changes));
  return config.dump();
}

std::vector<bool> LayersWithExperts(const ModelConfig& config) {
  std::vector<bool> experts;
  for (const LayerConfig& layer : config.layers) {
    experts.push_back(layer.experts);
  }
  return experts;
}

TEST(ModelConfig, ExpertsOfQwen3Moe) {
  const ModelConfig config = ParseFamily("qwen3_moe", WithExperts().c_str());
  EXPECT_EQ(config.experts.count, 4);
  EXPECT_EQ(config.experts.taken, 2);
  EXPECT_EQ(config.experts.intermediate_size, 32);
  EXPECT_FALSE(config.experts.normalised);
  EXPECT_EQ(config.experts.shared_size, 0);
  EXPECT_THAT(LayersWithExperts(config), ElementsAre(true, true, true));
  EXPECT_THAT(config.notes, IsEmpty());
  // As transformers 5 writes it.
  const ModelConfig other = ParseFamily(
      "qwen3_moe", WithExperts(R"({"num_experts": null, "num_local_experts": 4,
                                   "norm_topk_prob": true})"));
  EXPECT_EQ(other.experts.count, 4);
  EXPECT_TRUE(other.experts.normalised);
}

TEST(ModelConfig, LayersOfQwenMoeWithoutExperts) {
  const auto layers = [](const std::string& changes) {
    return LayersWithExperts(ParseFamily("qwen2_moe", WithExperts(changes)));
  };
  EXPECT_THAT(layers(R"({"decoder_sparse_step": 2})"),
              ElementsAre(false, true, false));
  EXPECT_THAT(layers(R"({"mlp_only_layers": [0, 2]})"),
              ElementsAre(false, true, false));
  EXPECT_THAT(layers(R"({"mlp_only_layers": null})"),
              ElementsAre(true, true, true));
}

TEST(ModelConfig, Qwen2MoeHasAnExpertForAllRows) {
  const ModelConfig config = ParseFamily("qwen2_moe", WithExperts());
  EXPECT_EQ(config.experts.shared_size, 48);
  EXPECT_TRUE(config.experts.shared_scale);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(
      ParseFamily("qwen2_moe", WithExperts(R"({"qkv_bias": false})")).qkv_bias);
}

// The usual window of Qwen 3 is of layers from one on; here it is of all.
TEST(ModelConfig, WindowsOfQwen3MoeAreOfEveryLayer) {
  const auto window = [](const std::string& changes) {
    const ModelConfig config = ParseFamily("qwen3_moe", WithExperts(changes));
    return std::pair(config.layers[0].window, config.layers[2].window);
  };
  EXPECT_EQ(window("{}"), std::pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(window(R"({"sliding_window": 7})"),
            std::pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(window(R"({"sliding_window": 7, "use_sliding_window": true})"),
            std::pair(int64_t{7}, int64_t{7}));
}

TEST(ModelConfig, ExpertsOfOtherFamilies) {
  const ModelConfig mixtral =
      ParseFamily("mixtral", R"({"num_local_experts": 6})");
  EXPECT_EQ(mixtral.experts.count, 6);
  EXPECT_EQ(mixtral.experts.taken, 2);
  EXPECT_EQ(mixtral.experts.intermediate_size, 160);
  EXPECT_TRUE(mixtral.experts.normalised);
  const ModelConfig ernie =
      ParseFamily("ernie4_5_moe", R"({"moe_num_experts": 8,
          "moe_intermediate_size": 32, "moe_layer_end_index": 1})");
  EXPECT_EQ(ernie.experts.taken, 6);
  EXPECT_EQ(ernie.experts.shared_size, 64);
  EXPECT_TRUE(ernie.experts.choice_bias);
  EXPECT_THAT(LayersWithExperts(ernie), ElementsAre(false, true, false));
  const ModelConfig glm =
      ParseFamily("glm4_moe", R"({"n_routed_experts": 8, "n_group": 4,
          "topk_group": 4, "moe_intermediate_size": 32})");
  EXPECT_EQ(glm.experts.scores, RouterScores::kSigmoid);
  EXPECT_TRUE(glm.experts.normalised);
  EXPECT_EQ(glm.experts.shared_size, 32);
  EXPECT_THAT(LayersWithExperts(glm), ElementsAre(false, true, true));
  const ModelConfig granite = ParseFamily(
      "granitemoeshared",
      R"({"num_local_experts": 4, "shared_intermediate_size": 24})");
  EXPECT_EQ(granite.experts.shared_size, 24);
  EXPECT_TRUE(granite.experts.normalised);
}

TEST(ModelConfig, SaysOfWhichExpertsThereAreNoConversions) {
  for (const char* family : {"gpt_oss", "deepseek_v2", "deepseek_v3"}) {
    EXPECT_THAT([&] { ParseFamily(family); },
                ThrowsMessage<Error>(
                    HasSubstr("nor does litert-torch 0.10.0 convert it")))
        << family;
  }
  EXPECT_THAT([] { ParseFamily("lfm2_moe"); },
              ThrowsMessage<Error>(HasSubstr("is not supported; supported")));
}

TEST(ModelConfig, RefusesExpertsOf) {
  const std::pair<const char*, std::pair<const char*, const char*>> cases[] = {
      {"qwen3_moe", {R"({"num_experts_per_tok": 5})", "there are 4 experts"}},
      {"qwen3_moe", {R"({"num_local_experts": 5})", "differ"}},
      {"qwen3_moe", {R"({"mlp_only_layers": 1})", "an array"}},
      {"qwen3_moe", {R"({"mlp_only_layers": ["a"]})", "numbers of layers"}},
      {"qwen3_moe", {R"({"decoder_sparse_step": 0})", "decoder_sparse_step"}},
      {"qwen3_moe",
       {R"({"moe_intermediate_size": null})", "moe_intermediate_size"}},
      {"qwen2_moe", {R"({"use_sliding_window": true})", "layer_types"}},
      {"olmoe", {R"({"clip_qkv": 8})", "clip_qkv"}},
      {"glm4_moe", {R"({"n_routed_experts": 4, "n_group": 4})", "groups"}},
      {"glm4_moe",
       {R"({"n_routed_experts": 4, "n_group": 2,
                        "num_experts_per_tok": 3})",
        "groups"}},
  };
  for (const auto& [family, bad] : cases) {
    EXPECT_THAT([&] { ParseFamily(family, WithExperts(bad.first)); },
                ThrowsMessage<Error>(HasSubstr(bad.second)))
        << family << " " << bad.first;
  }
}

TEST(ModelConfig, RefusesPerFamily) {
  struct Case {
    const char* family;
    const char* changes;
    const char* message;
  };
  const Case cases[] = {
      {"mistral", R"({"sliding_window": 0})", "sliding_window"},
      {"mistral", R"({"layer_types": ["sliding_attention",
          "full_attention", "full_attention"]})",
       "does not read it"},
      {"qwen2", R"({"sliding_window": "all", "use_sliding_window": true})",
       "sliding_window"},
      {"qwen2", R"({"max_window_layers": -1, "use_sliding_window": true})",
       "max_window_layers"},
      {"qwen2", R"({"layer_types": ["sliding_attention", "full_attention",
          "full_attention"]})",
       "no window is set"},
      {"qwen2", R"({"layer_types": ["full_attention"]})", "an array of 3"},
      {"qwen2", R"({"layer_types": "full_attention"})", "an array of 3"},
      {"qwen3", R"({"layer_types": ["full_attention", "full_attention",
          "chunked_attention"]})",
       "chunked_attention"},
      {"gemma", R"({"hidden_act": "relu"})", "hidden_act"},
      {"gemma", R"({"hidden_activation": "silu"})", "differ"},
      {"gemma", R"({"use_bidirectional_attention": true})",
       "use_bidirectional_attention"},
      {"gemma2", R"({"sliding_window": null})", "no window is set"},
      {"gemma2", R"({"query_pre_attn_scalar": 0})", "query_pre_attn_scalar"},
      {"gemma2", R"({"attn_logit_softcapping": 0})", "attn_logit_softcapping"},
      {"gemma2", R"({"attn_logit_softcapping": "no"})", "expected a number"},
      {"gemma3_text", R"({"sliding_window_pattern": 0})",
       "sliding_window_pattern"},
      {"gemma3_text", R"({"rope_parameters": {"rope_theta": 1e4}})",
       "expected objects"},
      {"gemma3_text", R"({"rope_parameters": [1]})", "an object or null"},
      {"gemma3_text", R"({"rope_scaling": [1]})", "an object or null"},
      {"gemma3_text", R"({"rope_scaling": {"type": "linear", "factor": 8}})",
       "rope_type"},
      {"gemma3_text", R"({"rope_parameters": {"sliding_attention":
          {"rope_type": "linear", "factor": 8}}})",
       "other than default"},
      {"phi3", R"({"rope_scaling": {"type": "su"}})",
       "supported: default, longrope"},
      {"phi3", R"({"rope_scaling": {"type": "linear", "factor": 2}})",
       "supported: default, longrope"},
      {"phi3", R"({"rope_scaling": {"type": "longrope"}})",
       R"(no "short_factor")"},
      {"phi3", R"({"rope_scaling": {"type": "longrope",
          "short_factor": [1, 2]}})",
       "an array of 8"},
      {"phi3", R"({"rope_scaling": {"type": "longrope",
          "short_factor": [1, 2, 3, 4, 5, 6, 7, 0]}})",
       "short_factor"},
      {"phi3", R"({"partial_rotary_factor": 0})", "elements of a head rotate"},
      {"phi3", R"({"partial_rotary_factor": 0.2})",
       "3 of 16 elements of a head rotate"},
      {"smollm3", R"({"no_rope_layers": [1, 1]})", "an array of at least 3"},
      {"smollm3", R"({"no_rope_layers": [1, 1, 2]})", "numbers 0 and 1"},
      {"smollm3", R"({"no_rope_layer_interval": 0})", "no_rope_layer_interval"},
      {"phi", R"({"qk_layernorm": true})", "qk_layernorm"},
      {"phi", R"({"layer_norm_eps": 0})", "layer_norm_eps"},
      {"falcon", R"({"new_decoder_architecture": true,
          "parallel_attn": false})",
       "without \"parallel_attn\""},
      {"falcon", R"({"num_ln_in_parallel_attn": 2})",
       "num_ln_in_parallel_attn"},
      {"falcon", R"({"num_ln_in_parallel_attn": 3})",
       "num_ln_in_parallel_attn"},
      {"falcon", R"({"multi_query": false, "num_kv_heads": 2})",
       "expected num_attention_heads 4"},
      {"falcon", R"({"activation": "relu"})", "activation"},
      {"falcon", R"({"alibi": "yes"})", "expected true or false"},
      {"falcon", R"({"num_kv_heads": 3})", "no multiple of num_kv_heads 3"},
      {"granite", R"({"logits_scaling": 0})", "logits_scaling"},
      {"ministral3", R"({"rope_parameters": {"rope_type": "default",
                        "original_max_position_embeddings": 9}})",
       "llama_4_scaling_beta"},
      {"ministral3", R"({"rope_parameters": {"rope_type": "default",
                        "llama_4_scaling_beta": 0.1}})",
       "original_max_position_embeddings"},
      {"hunyuan_v1_dense", "{}", "head_dim"},
      {"exaone", R"({"num_layers": 9})", "differ"},
      {"internlm3", R"({"qkv_bias": true})", "differ"},
      {"iquestcoder", R"({"clip_qkv": 8})", "clip_qkv"},
      {"exaone4", R"({"sliding_window": null})", "no window is set"},
      {"exaone4", R"({"sliding_window_pattern": "LLLG"})",
       "sliding_window_pattern"},
      {"cohere", R"({"use_qk_norm": true})", "use_qk_norm"},
      {"cohere", R"({"logit_scale": 0})", "logit_scale"},
      {"cohere2", R"({"sliding_window": null})", "sliding_window"},
      {"olmo", R"({"clip_qkv": 8})", "clip_qkv"},
      {"llama", R"({"hidden_act": "xielu"})", "xielu"},
      {"granite", R"({"residual_multiplier": "no"})", "residual_multiplier"},
  };
  for (const Case& bad : cases) {
    EXPECT_THAT([&] { ParseFamily(bad.family, bad.changes); },
                ThrowsMessage<Error>(
                    AllOf(HasSubstr("config.json"), HasSubstr(bad.message))))
        << bad.family << " " << bad.changes;
  }
}

// What a mixture of experts must say, as its family calls it.
json SizesOfExperts(const std::string& family) {
  const std::map<std::string, std::string> counts = {
      {"qwen2_moe", "num_experts"},
      {"qwen3_moe", "num_experts"},
      {"olmoe", "num_experts"},
      {"mixtral", "num_local_experts"},
      {"granitemoe", "num_local_experts"},
      {"ernie4_5_moe", "moe_num_experts"},
      {"granitemoeshared", "num_local_experts"},
      {"glm4_moe", "n_routed_experts"}};
  const auto count = counts.find(family);
  if (count == counts.end()) return json::object();
  return {{count->second, 4U},
          {"num_experts_per_tok", 2U},
          {"moe_k", 2U},
          {"moe_intermediate_size", 32U},
          {"shared_expert_intermediate_size", 48U}};
}

// What tools/ignored_keys.py saw transformers do with random models.
TEST(ModelConfig, RefusesWhatTransformersReadsAndNotesWhatItIgnores) {
  const json recorded = ReadJsonFile(TestDataPath("ignored_keys.json"));
  const std::set<std::pair<std::string, std::string>> handled = {
      {"llama", "attention_bias"},
      {"llama", "mlp_bias"},
      {"mistral", "sliding_window"},
      {"qwen3", "attention_bias"},
      {"gemma", "attention_bias"},
      {"gemma2", "attention_bias"},
      {"gemma2", "sliding_window"},
      {"gemma2", "attn_logit_softcapping"},
      {"gemma2", "final_logit_softcapping"},
      {"gemma2", "query_pre_attn_scalar"},
      {"gemma3_text", "attention_bias"},
      {"gemma3_text", "sliding_window"},
      {"gemma3_text", "sliding_window_pattern"},
      {"gemma3_text", "rope_local_base_freq"},
      {"gemma3_text", "final_logit_softcapping"},
      {"gemma3_text", "query_pre_attn_scalar"},
      {"phi3", "sliding_window"},
      {"phi3", "partial_rotary_factor"},
      {"phi3", "rope.partial_rotary_factor"},
      {"smollm3", "attention_bias"},
      {"smollm3", "mlp_bias"},
      {"smollm3", "no_rope_layers"},
      {"phi", "partial_rotary_factor"},
      {"phi", "rope.partial_rotary_factor"},
      {"falcon", "alibi"},
      {"falcon", "parallel_attn"},
      {"granite", "attention_bias"},
      {"granite", "mlp_bias"},
      {"granite", "embedding_multiplier"},
      {"granite", "attention_multiplier"},
      {"granite", "residual_multiplier"},
      {"granite", "logits_scaling"},
      {"olmo2", "attention_bias"},
      {"exaone", "attention_bias"},
      {"exaone", "mlp_bias"},
      {"iquestcoder", "attention_bias"},
      {"iquestcoder", "mlp_bias"},
      {"hyperclovax", "attention_bias"},
      {"hyperclovax", "mlp_bias"},
      {"hyperclovax", "embedding_multiplier"},
      {"hyperclovax", "attention_multiplier"},
      {"hyperclovax", "residual_multiplier"},
      {"hyperclovax", "logits_scaling"},
      {"ministral", "sliding_window"},
      {"exaone4", "sliding_window"},
      {"exaone4", "sliding_window_pattern"},
      {"hunyuan_v1_dense", "attention_bias"},
      {"seed_oss", "mlp_bias"},
      {"starcoder2", "sliding_window"},
      {"cohere", "attention_bias"},
      {"cohere", "logit_scale"},
      {"cohere2", "attention_bias"},
      {"cohere2", "logit_scale"},
      {"cohere2", "sliding_window"},
      {"cohere2", "sliding_window_pattern"},
      {"helium", "attention_bias"},
      {"helium", "mlp_bias"},
      {"olmo", "attention_bias"},
      {"olmo3", "attention_bias"},
      {"olmo3", "sliding_window"},
      {"arcee", "attention_bias"},
      {"arcee", "mlp_bias"},
      {"apertus", "attention_bias"},
      {"vaultgemma", "attention_bias"},
      {"vaultgemma", "sliding_window"},
      {"vaultgemma", "query_pre_attn_scalar"},
      {"vaultgemma", "attn_logit_softcapping"},
      {"vaultgemma", "final_logit_softcapping"},
      {"nanochat", "attention_bias"},
      {"nanochat", "final_logit_softcapping"},
      {"bitnet", "attention_bias"},
      {"ministral3", "sliding_window"},
      {"glm", "partial_rotary_factor"},
      {"glm", "rope.partial_rotary_factor"},
      {"glm4", "partial_rotary_factor"},
      {"glm4", "rope.partial_rotary_factor"},
      {"gemma3n_text", "attention_bias"},
      {"gemma3n_text", "sliding_window"},
      {"gemma3n_text", "rope_local_base_freq"},
      {"gemma3n_text", "final_logit_softcapping"},
      {"qwen2_moe", "num_experts"},
      {"qwen3_moe", "attention_bias"},
      {"qwen3_moe", "num_experts"},
      {"qwen3_moe", "num_local_experts"},
      {"mixtral", "sliding_window"},
      {"mixtral", "num_experts"},
      {"mixtral", "num_local_experts"},
      {"olmoe", "attention_bias"},
      {"olmoe", "num_experts"},
      {"olmoe", "num_local_experts"},
      {"granitemoe", "attention_bias"},
      {"granitemoe", "embedding_multiplier"},
      {"granitemoe", "residual_multiplier"},
      {"granitemoe", "attention_multiplier"},
      {"granitemoe", "logits_scaling"},
      {"granitemoe", "num_local_experts"},
      {"granitemoeshared", "attention_bias"},
      {"granitemoeshared", "embedding_multiplier"},
      {"granitemoeshared", "residual_multiplier"},
      {"granitemoeshared", "attention_multiplier"},
      {"granitemoeshared", "logits_scaling"},
      {"granitemoeshared", "num_local_experts"},
      {"ernie4_5_moe", "num_experts"},
      {"glm4_moe", "attention_bias"},
      {"glm4_moe", "partial_rotary_factor"},
      {"glm4_moe", "rope.partial_rotary_factor"},
      {"glm4_moe", "use_qk_norm"},
      {"glm4_moe", "num_local_experts"}};
  for (const auto& [family, keys] : recorded["families"].items()) {
    for (const auto& [key, seen] : keys.items()) {
      SCOPED_TRACE(family + " " + key);
      // No key that is known outside of Falcon: passed over like any other.
      if (key == "parallel_attn" && family != "falcon") continue;
      json value = seen["value"];
      if (key == "no_rope_layers") value = json::array({0, 0, 0});
      if (key == "partial_rotary_factor") value = 0.5;
      json changes = {{key, value}};
      if (key.starts_with("rope.")) {
        changes = {{"rope_parameters", {{key.substr(5), 0.5}}}};
        if (key.ends_with("section")) {
          changes["rope_parameters"][key.substr(5)] = value;
        }
      }
      if (family == "hunyuan_v1_dense") changes["head_dim"] = 16U;
      if (family == "gemma3n_text") changes["num_kv_shared_layers"] = 0U;
      changes.update(SizesOfExperts(family));
      // transformers cannot run such a model.
      if (seen.contains("error")) {
        EXPECT_THROW(ParseFamily(family, changes.dump()), Error);
        continue;
      }
      const bool acts = seen["forward"];
      if (acts && !handled.contains({family, key})) {
        EXPECT_THROW(ParseFamily(family, changes.dump()), Error);
        continue;
      }
      // transformers' attention of Gemma reads it where it makes no difference
      // to that model: refused all the same.
      if (key == "use_bidirectional_attention" && family.starts_with("gemma")) {
        continue;
      }
      const ModelConfig config = ParseFamily(family, changes.dump());
      if (handled.contains({family, key})) {
        EXPECT_THAT(config.notes, IsEmpty());
        continue;
      }
      // Without use_sliding_window these have none, whatever its size; and some
      // have biases where config.json says nothing.
      const bool unused = (key == "sliding_window" || key == "attention_bias" ||
                           key == "mlp_bias") &&
                          config.notes.empty();
      if (unused) {
        EXPECT_THAT(family,
                    AnyOf("qwen2", "qwen3", "smollm3", "seed_oss", "glm",
                          "glm4", "jais2", "qwen2_moe", "qwen3_moe"));
        continue;
      }
      EXPECT_THAT(config.notes,
                  ElementsAre(AllOf(HasSubstr("transformers ignores it"),
                                    HasSubstr(family))));
      EXPECT_EQ(config.notes[0].find("KV cache") != std::string::npos,
                key == "sliding_window" || key == "attention_chunk_size");
    }
  }
}

TEST(ModelConfig, RefusesAbsurdNumbers) {
  const char* keys[] = {"vocab_size",
                        "hidden_size",
                        "intermediate_size",
                        "num_hidden_layers",
                        "num_attention_heads",
                        "num_key_value_heads",
                        "head_dim",
                        "max_position_embeddings"};
  const char* values[] = {"0",      "-4",   "1000000000000", "1e400",
                          "\"64\"", "64.5", "[64]",          "true"};
  for (const char* key : keys) {
    for (const char* value : values) {
      const std::string changes = fmt::format(R"({{"{}": {}}})", key, value);
      if (!json::accept(changes)) continue;
      EXPECT_THAT([&] { ParseWith(changes); },
                  ThrowsMessage<Error>(
                      AllOf(HasSubstr(key), HasSubstr("expected an integer"))))
          << changes;
    }
  }
}

TEST(ModelConfig, RefusesOtherAbsurdValues) {
  const Bad cases[] = {
      {R"({"rms_norm_eps": 0})", "rms_norm_eps"},
      {R"({"rms_norm_eps": -1e-5})", "rms_norm_eps"},
      {R"({"rms_norm_eps": "1e-5"})", "expected a number"},
      {R"({"rms_norm_eps": 1})", "rms_norm_eps"},
      {R"({"rope_theta": 0})", "rope_theta"},
      {R"({"rope_theta": 1e30})", "rope_theta"},
      {R"({"rope_theta": [1e4]})", "rope_theta"},
      {R"({"tie_word_embeddings": 1})", "expected true or false"},
      {R"({"attention_bias": "yes"})", "expected true or false"},
      {R"({"num_attention_heads": 5})", "no multiple of num_attention_heads"},
      {R"({"num_attention_heads": 128})", "no multiple of num_attention_heads"},
      {R"({"num_key_value_heads": 3})", "no multiple of num_key_value_heads"},
      {R"({"num_key_value_heads": 8})", "no multiple of num_key_value_heads"},
      {R"({"head_dim": 15})", "head_dim 15 is odd"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})",
       R"(no "low_freq_factor")"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 0,
          "low_freq_factor": 1, "high_freq_factor": 4}})",
       "factor"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8,
          "low_freq_factor": 4, "high_freq_factor": 4}})",
       "is not below high_freq_factor"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8,
          "low_freq_factor": 1, "high_freq_factor": 4,
          "original_max_position_embeddings": 0}})",
       "original_max_position_embeddings"},
  };
  for (const Bad& bad : cases) {
    EXPECT_THAT([&] { ParseWith(bad.changes); },
                ThrowsMessage<Error>(HasSubstr(bad.message)))
        << bad.changes;
  }
}

TEST(ModelConfig, SizesMustBeThere) {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size",
                          "num_hidden_layers", "num_attention_heads"}) {
    json config = Minimal();
    config.erase(key);
    EXPECT_THAT([&] { Parse(config); },
                ThrowsMessage<Error>(HasSubstr(fmt::format("no \"{}\"", key))));
  }
}

}  // namespace
}  // namespace verify_tflite
