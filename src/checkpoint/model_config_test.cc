#include "checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"

namespace verify_tflite {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
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
      {R"({"hidden_act": "gelu"})", R"("hidden_act" is "gelu")"},
      {R"({"hidden_act": ["silu"]})", "expected a string"},
      {R"({"quantization_config": {"bits": 4}})", "quantization_config"},
      {R"({"sliding_window": 4096})", "sliding_window"},
      {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor"},
      {R"({"num_local_experts": 8})", "num_local_experts"},
      {R"({"layer_types": ["full_attention", "sliding_attention"]})",
       "sliding_attention"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})",
       R"(rope_type "yarn" is not supported; supported: default, llama3, )"
       "linear"},
      {R"({"rope_scaling": {"type": "dynamic", "factor": 4.0}})",
       R"(rope_type "dynamic")"},
      {R"({"rope_scaling": {"type": "longrope", "factor": 4.0}})",
       R"(rope_type "longrope")"},
      {R"({"rope_scaling": {"type": "default", "mrope_section": [1]}})",
       "not supported"},
      {R"({"rope_scaling": {"partial_rotary_factor": 0.25}})",
       "partial_rotary_factor"},
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
