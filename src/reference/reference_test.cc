#include "reference/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>
#include <random>
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
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

using Tokens = std::vector<int32_t>;
using Rows = std::vector<std::vector<float>>;

// A reference and the checkpoint it reads.
struct Opened {
  explicit Opened(const std::string& path, int num_threads = 2,
                  std::optional<int64_t> max_dot_rows = {})
      : checkpoint(Checkpoint::Open(path)),
        reference(Reference::Open(checkpoint, {.num_threads = num_threads,
                                               .max_dot_rows = max_dot_rows})) {
  }
  Checkpoint checkpoint;
  Reference reference;
};

// Logits of the last `logit_rows` of `tokens` (all when negative).
Rows Score(Reference& reference, Sequence& sequence, const Tokens& tokens,
           int64_t logit_rows = -1) {
  const auto count = static_cast<int64_t>(tokens.size());
  if (logit_rows < 0) logit_rows = count;
  Rows rows;
  const Reference::Item item{&sequence, tokens, logit_rows};
  reference.Score({&item, 1}, [&](size_t index, int64_t row,
                                  std::span<const float> logits) {
    EXPECT_EQ(index, 0);
    EXPECT_EQ(row, count - logit_rows + static_cast<int64_t>(rows.size()));
    rows.emplace_back(logits.begin(), logits.end());
  });
  EXPECT_EQ(static_cast<int64_t>(rows.size()), logit_rows);
  return rows;
}

Rows ScoreNew(Reference& reference, const Tokens& tokens) {
  Sequence sequence = reference.NewSequence();
  return Score(reference, sequence, tokens);
}

float MaxDifference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  float max = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    // Not std::max: a NaN must not pass.
    const float difference = std::abs(a[i] - b[i]);
    if (!(difference <= max)) max = difference;
  }
  return max;
}

float MaxDifference(const Rows& a, const Rows& b) {
  EXPECT_EQ(a.size(), b.size());
  float max = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const float difference = MaxDifference(a[i], b[i]);
    if (!(difference <= max)) max = difference;
  }
  return max;
}

int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) -
                              logits.begin());
}

Tokens SomeTokens(int64_t count, int32_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  Tokens tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

// Logits that transformers computed in float32.

// Both ways of multiplying, whichever this processor prefers.
constexpr int64_t kAlwaysDot = 1 << 20;
constexpr int64_t kAlwaysAten = 0;

class Recorded : public testing::TestWithParam<std::string> {};

void ExpectRecorded(const std::string& name, int64_t max_dot_rows) {
  const json expected =
      ReadJsonFile(ExpectedPath("reference/" + name + ".json"));
  Opened opened(ModelPath(name), 2, max_dot_rows);
  // Ten times the layers of the small ones.
  const float limit = name == "smollm2" ? 1e-3F : 1e-4F;

  for (const json& recorded : expected["cases"]) {
    const auto tokens = recorded["token_ids"].get<Tokens>();
    const auto want = ReadFloats(ExpectedPath(
        "reference/" + recorded["logits_file"].get<std::string>()));
    const Rows got = ScoreNew(opened.reference, tokens);
    const size_t vocab = expected["vocab_size"];
    ASSERT_EQ(got.size() * vocab, want.size());
    float max = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      max = std::max(max, MaxDifference(got[i], {&want[i * vocab], vocab}));
    }
    testing::Test::RecordProperty(
        fmt::format("{}_{}_tokens", max_dot_rows > 0 ? "dot" : "aten",
                    tokens.size()),
        fmt::format("{:.2e}", max));
    EXPECT_LE(max, limit) << name << ", " << tokens.size() << " tokens";
  }
}

TEST_P(Recorded, LogitsEqualTransformers) {
  ExpectRecorded(GetParam(), kAlwaysDot);
  ExpectRecorded(GetParam(), kAlwaysAten);
}

// The same numbers in another file give the same bits: in memory (tensors of a
// pickle that are not stored row by row) and as float64.
TEST(SameWeights, OfAnotherFileGiveTheSameLogits) {
  const std::pair<const char*, const char*> cases[] = {
      {"ref_mha_untied", "ref_pickles/transposed.pt"},
      {"ref_mha_untied", "ref_pickles/sharded"},
      {"ref_gqa_tied", "ref_f64"}};
  for (const auto& [original, other] : cases) {
    for (const int64_t max_dot_rows : {kAlwaysDot, kAlwaysAten}) {
      Opened a(ModelPath(original), 2, max_dot_rows);
      Opened b(ModelPath(other), 2, max_dot_rows);
      const Tokens tokens = SomeTokens(40, 1000, 3);
      EXPECT_EQ(ScoreNew(a.reference, tokens), ScoreNew(b.reference, tokens))
          << other;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Reference, Recorded,
                         testing::Values("ref_gqa_tied", "ref_mha_untied",
                                         "ref_bias", "ref_llama3_rope",
                                         "ref_rope_parameters", "ref_head_dim",
                                         "ref_sharded", "ref_bf16", "tiny",
                                         "smollm2"),
                         [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(
    Families, Recorded,
    testing::Values(
        "ref_mistral", "ref_mistral_full", "ref_qwen2", "ref_qwen2_window",
        "ref_qwen3", "ref_qwen3_layer_types", "ref_gemma", "ref_gemma2",
        "ref_gemma2_layer_types", "ref_gemma3", "ref_phi3", "ref_phi3_longrope",
        "ref_smollm3", "ref_smollm3_window", "ref_gemma3_multimodal",
        "ref_yarn", "ref_phi", "ref_falcon", "ref_falcon_new",
        "ref_falcon_one_norm", "ref_falcon_alibi", "ref_falcon_rw",
        "ref_phi3_plain", "ref_phi3_partial", "ref_phi35", "ref_phi4",
        "ref_dynamic", "ref_yarn_mscale", "ref_openelm", "ref_granite",
        "ref_olmo2", "ref_gemma4", "ref_gemma4_e2b", "ref_gemma4_text"),
    [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(
    MoreFamilies, Recorded,
    testing::Values("ref_ministral", "ref_ministral3", "ref_exaone4",
                    "ref_hunyuan", "ref_seed_oss", "ref_starcoder2",
                    "ref_starcoder2_plain", "ref_glm", "ref_glm4", "ref_cohere",
                    "ref_cohere2", "ref_ernie4_5", "ref_helium", "ref_olmo",
                    "ref_olmo3", "ref_arcee", "ref_apertus", "ref_vaultgemma",
                    "ref_nanochat", "ref_bitnet", "ref_jais2",
                    "ref_hyperclovax", "ref_exaone", "ref_internlm3",
                    "ref_iquestcoder", "ref_gemma3n", "ref_gemma3n_text"),
    [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(
    Multimodal, Recorded,
    testing::Values("ref_llava", "ref_llava_next", "ref_llava_onevision",
                    "ref_vipllava", "ref_smolvlm", "ref_idefics3",
                    "ref_internvl", "ref_qwen2_vl", "ref_qwen2_5_vl",
                    "ref_qwen3_vl", "ref_mistral3", "ref_aya_vision",
                    "ref_cohere2_vision", "ref_lighton_ocr",
                    "ref_fast_vlm", "ref_got_ocr2", "ref_ovis2"),
    [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(Experts, Recorded,
                         testing::Values("ref_qwen3_moe", "ref_mixtral",
                                         "ref_olmoe", "ref_qwen2_moe",
                                         "ref_granitemoe",
                                         "ref_granitemoeshared",
                                         "ref_ernie4_5_moe", "ref_glm4_moe"),
                         [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(Hybrids, Recorded,
                         testing::Values("ref_lfm2", "ref_lfm2_bias"),
                         [](const auto& info) { return info.param; });

TEST(Reference, GreedyTokensEqualGenerate) {
  const json expected =
      ReadJsonFile(ExpectedPath("reference/smollm2_greedy.json"));
  Opened opened(ModelPath("smollm2"));
  std::vector<Tokens> sequences;
  std::vector<size_t> prompts;
  for (const json& recorded : expected["cases"]) {
    sequences.push_back(recorded["token_ids"].get<Tokens>());
    prompts.push_back(sequences.back().size());
    const auto made = recorded["new_ids"].get<Tokens>();
    sequences.back().insert(sequences.back().end(), made.begin(), made.end());
  }
  ASSERT_GE(sequences.size(), 24);
  // All prompts in one pass, each with the tokens that transformers chose.
  std::vector<Sequence> held;
  for (size_t i = 0; i < sequences.size(); ++i) {
    held.push_back(opened.reference.NewSequence());
  }
  std::vector<Reference::Item> items;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto made = static_cast<int64_t>(sequences[i].size() - prompts[i]);
    items.push_back({&held[i],
                     std::span(sequences[i]).first(sequences[i].size() - 1),
                     made});
  }
  int64_t rows = 0;
  opened.reference.Score(
      items, [&](size_t item, int64_t row, std::span<const float> logits) {
        ++rows;
        EXPECT_EQ(ArgMax(logits), sequences[item][row + 1])
            << "prompt " << item << ", position " << row + 1;
      });
  EXPECT_GE(rows, 24 * 2);
}

TEST(Reference, DecodesTokenByTokenLikeGenerate) {
  const json expected =
      ReadJsonFile(ExpectedPath("reference/smollm2_greedy.json"));
  Opened opened(ModelPath("smollm2"));
  const json& recorded = expected["cases"][0];
  Sequence sequence = opened.reference.NewSequence();
  Tokens feed = recorded["token_ids"].get<Tokens>();
  for (const int32_t want : recorded["new_ids"].get<Tokens>()) {
    const Rows logits = Score(opened.reference, sequence, feed, 1);
    const int32_t chosen = ArgMax(logits[0]);
    ASSERT_EQ(chosen, want) << "after " << sequence.length() << " tokens";
    feed = {chosen};
  }
}

// The same numbers whichever way a text gets into the caches.

constexpr float kSame = 1e-4F;

TEST(Reference, SplittingASequenceOverPassesChangesNothing) {
  for (const char* name :
       {"ref_gqa_tied", "ref_llama3_rope", "ref_head_dim", "ref_mistral",
        "ref_qwen2_window", "ref_qwen3", "ref_gemma2", "ref_gemma3", "ref_phi3",
        "ref_smollm3_window", "ref_phi", "ref_falcon_new", "ref_openelm"}) {
    Opened opened(ModelPath(name));
    const Tokens tokens = SomeTokens(300, 1000, 1);
    const Rows whole = ScoreNew(opened.reference, tokens);
    for (const std::vector<int64_t>& cuts : std::vector<std::vector<int64_t>>{
             {1, 1, 298}, {299, 1}, {7, 100, 2, 191}, {20, 280}}) {
      Sequence sequence = opened.reference.NewSequence();
      Rows parts;
      auto begin = tokens.begin();
      for (const int64_t count : cuts) {
        const Rows rows =
            Score(opened.reference, sequence, Tokens(begin, begin + count));
        parts.insert(parts.end(), rows.begin(), rows.end());
        begin += count;
      }
      EXPECT_EQ(sequence.length(), 300);
      EXPECT_LE(MaxDifference(parts, whole), kSame) << name;
    }
  }
}

class Packing : public testing::TestWithParam<std::string> {};

TEST_P(Packing, ChangesNothing) {
  Opened opened(ModelPath(GetParam()));
  const int64_t lengths[] = {1, 40, 3, 270, 17};
  const int64_t wanted[] = {1, 5, 0, 270, 16};
  std::vector<Tokens> tokens;
  std::vector<Sequence> held;
  for (size_t i = 0; i < std::size(lengths); ++i) {
    tokens.push_back(SomeTokens(lengths[i], 1000, static_cast<uint32_t>(i)));
    held.push_back(opened.reference.NewSequence());
  }
  // One of them with a past.
  const Tokens past = SomeTokens(30, 1000, 9);
  Score(opened.reference, held[1], past, 0);
  std::vector<Reference::Item> items;
  for (size_t i = 0; i < tokens.size(); ++i) {
    items.push_back({&held[i], tokens[i], wanted[i]});
  }
  std::vector<Rows> packed(tokens.size());
  opened.reference.Score(
      items, [&](size_t item, int64_t row, std::span<const float> logits) {
        EXPECT_EQ(row, lengths[item] - wanted[item] +
                           static_cast<int64_t>(packed[item].size()));
        packed[item].emplace_back(logits.begin(), logits.end());
      });
  for (size_t i = 0; i < tokens.size(); ++i) {
    Sequence alone = opened.reference.NewSequence();
    if (i == 1) Score(opened.reference, alone, past, 0);
    EXPECT_LE(MaxDifference(packed[i], Score(opened.reference, alone, tokens[i],
                                             wanted[i])),
              kSame)
        << i;
    EXPECT_EQ(held[i].length(), alone.length());
  }
}

INSTANTIATE_TEST_SUITE_P(Reference, Packing,
                         testing::Values("ref_gqa_tied", "ref_mistral",
                                         "ref_gemma3", "ref_phi3_longrope",
                                         "ref_falcon_rw", "ref_openelm"),
                         [](const auto& info) { return info.param; });

TEST(Reference, LongRopeStartsAnewWhereATextBecomesLong) {
  Opened opened(ModelPath("ref_phi3_longrope"));
  const Tokens tokens = SomeTokens(200, 1000, 1);
  const auto slice = [&](int64_t begin, int64_t end) {
    return Tokens(tokens.begin() + begin, tokens.begin() + end);
  };
  Sequence sequence = opened.reference.NewSequence();
  Score(opened.reference, sequence, slice(0, 100), 1);
  const Rows part = Score(opened.reference, sequence, slice(100, 128));
  const Rows whole = ScoreNew(opened.reference, slice(0, 128));
  EXPECT_LE(MaxDifference(part, Rows(whole.begin() + 100, whole.end())), kSame);

  const auto goes_on = [&] {
    Score(opened.reference, sequence, slice(128, 129), 1);
  };
  EXPECT_THAT(goes_on, ThrowsMessage<Error>(HasSubstr("across 128 tokens")));
  EXPECT_EQ(sequence.length(), 128);
  sequence.Truncate(0);
  const Rows long_rows = Score(opened.reference, sequence, slice(0, 129));
  EXPECT_GT(MaxDifference(Rows(long_rows.begin(), long_rows.end() - 1), whole),
            0.1);
  const Rows rest = Score(opened.reference, sequence, slice(129, 200));
  const Rows all = ScoreNew(opened.reference, tokens);
  EXPECT_LE(MaxDifference(rest, Rows(all.begin() + 129, all.end())), kSame);
  sequence.Truncate(50);
  EXPECT_THAT([&] { Score(opened.reference, sequence, slice(50, 60), 1); },
              ThrowsMessage<Error>(HasSubstr("across 128 tokens")));
}

TEST(Reference, DynamicRopeEndsWhereItsFrequenciesChange) {
  Opened opened(ModelPath("ref_dynamic"));
  Sequence sequence = opened.reference.NewSequence();
  Score(opened.reference, sequence, SomeTokens(511, 1000, 1), 0);
  EXPECT_THAT(
      [&] {
        Score(opened.reference, sequence, {1, 2}, 1);
      },
      ThrowsMessage<Error>(
          AllOf(HasSubstr("513 tokens"), HasSubstr("embeddings 512"))));
  EXPECT_EQ(sequence.length(), 511);
  Score(opened.reference, sequence, {1}, 1);
}

// Settings that no tensor's shape shows.

struct Setting {
  const char* model;
  const char* pointer;  // JSON pointer into config.json
  const char* value;
};

void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.model << setting.pointer << " = " << setting.value;
}

class Matters : public testing::TestWithParam<Setting> {};

// The test of a test: with another value, logits are not those recorded.
TEST_P(Matters, InTheLogits) {
  const Setting& setting = GetParam();
  const std::string name = setting.model;
  const TempDir dir;
  json config = ReadJsonFile(ModelPath(name) + "/config.json");
  config[json::json_pointer(setting.pointer)] = json::parse(setting.value);
  dir.Write("config.json", config.dump());
  std::filesystem::create_symlink(ModelPath(name) + "/model.safetensors",
                                  dir.File("model.safetensors"));
  const Tokens tokens = SomeTokens(300, 1000, 1);
  Opened changed(dir.path());
  Opened original(ModelPath(name));
  EXPECT_GT(MaxDifference(ScoreNew(changed.reference, tokens),
                          ScoreNew(original.reference, tokens)),
            0.01);
}

INSTANTIATE_TEST_SUITE_P(
    Hybrids, Matters,
    testing::Values(
        Setting{"ref_lfm2", "/norm_eps", "0.001"},
        Setting{"ref_lfm2", "/rope_parameters/rope_theta", "500000"},
        Setting{"ref_lfm2_bias", "/norm_eps", "1e-05"},
        Setting{"ref_lfm2_bias", "/rope_parameters/rope_theta", "400"},
        Setting{"ref_lfm2_bias", "/conv_bias", "false"}));

INSTANTIATE_TEST_SUITE_P(
    Reference, Matters,
    testing::Values(
        Setting{"ref_mistral", "/sliding_window", "24"},
        Setting{"ref_mistral", "/sliding_window", "22"},
        Setting{"ref_mistral", "/sliding_window", "null"},
        Setting{"ref_mistral", "/rope_parameters/rope_theta", "11000"},
        Setting{"ref_qwen2_window", "/layer_types/0", "\"sliding_attention\""},
        Setting{"ref_qwen2_window", "/layer_types/2", "\"full_attention\""},
        Setting{"ref_qwen2_window", "/sliding_window", "18"},
        Setting{"ref_qwen2_window", "/rope_parameters/factor", "4.4"},
        Setting{"ref_qwen3_layer_types", "/sliding_window", "41"},
        Setting{"ref_gemma2", "/query_pre_attn_scalar", "12"},
        Setting{"ref_gemma2", "/attn_logit_softcapping", "3.3"},
        Setting{"ref_gemma2", "/attn_logit_softcapping", "null"},
        Setting{"ref_gemma2", "/final_logit_softcapping", "4.1"},
        Setting{"ref_gemma2", "/final_logit_softcapping", "null"},
        Setting{"ref_gemma2", "/sliding_window", "30"},
        Setting{"ref_gemma3", "/query_pre_attn_scalar", "16"},
        Setting{"ref_gemma3", "/final_logit_softcapping", "null"},
        Setting{"ref_gemma3", "/sliding_window", "30"},
        Setting{"ref_gemma3", "/rope_parameters/full_attention/factor", "7"},
        Setting{"ref_gemma3", "/rope_parameters/full_attention/rope_theta",
                "40000"},
        Setting{"ref_gemma3", "/rope_parameters/sliding_attention/rope_theta",
                "600"},
        Setting{"ref_phi3", "/sliding_window", "38"},
        Setting{"ref_phi3", "/rope_parameters/partial_rotary_factor", "0.5"},
        Setting{"ref_phi3_longrope", "/rope_parameters/attention_factor", "1"},
        Setting{"ref_phi3_longrope", "/rope_parameters/long_factor/0", "1.3"},
        Setting{"ref_phi3_longrope", "/original_max_position_embeddings",
                "300"},
        Setting{"ref_phi3_longrope", "/max_position_embeddings", "4096"},
        Setting{"ref_yarn", "/rope_parameters/attention_factor", "1"},
        Setting{"ref_yarn", "/rope_parameters/factor", "3.5"},
        Setting{"ref_yarn", "/rope_parameters/beta_fast", "5"},
        Setting{"ref_yarn", "/rope_parameters/beta_slow", "3"},
        Setting{"ref_yarn", "/rope_parameters/truncate", "false"},
        Setting{"ref_phi", "/rope_parameters/partial_rotary_factor", "0.75"},
        Setting{"ref_phi", "/layer_norm_eps", "0.01"},
        Setting{"ref_falcon", "/activation", "\"silu\""},
        Setting{"ref_falcon", "/alibi", "true"},
        Setting{"ref_falcon_new", "/rope_parameters/rope_theta", "3600"},
        Setting{"ref_falcon_rw", "/alibi", "false"},
        Setting{"ref_falcon_rw", "/layer_norm_epsilon", "0.02"},
        Setting{"ref_yarn_mscale", "/rope_parameters/mscale", "1.4"},
        Setting{"ref_yarn_mscale", "/rope_parameters/mscale_all_dim", "0.5"},
        Setting{"ref_yarn_mscale", "/rope_parameters/mscale", "null"},
        Setting{"ref_openelm", "/rope_freq_constant", "12000"},
        Setting{"ref_granite", "/embedding_multiplier", "3.2"},
        Setting{"ref_granite", "/attention_multiplier", "0.42"},
        Setting{"ref_granite", "/residual_multiplier", "0.69"},
        Setting{"ref_granite", "/logits_scaling", "1.29"},
        Setting{"ref_olmo2", "/rms_norm_eps", "0.01"},
        Setting{"ref_olmo2", "/rope_parameters/rope_theta", "60000"},
        Setting{"ref_ministral", "/sliding_window", "20"},
        Setting{"ref_ministral", "/layer_types/1", "\"sliding_attention\""},
        Setting{"ref_ministral3", "/rope_parameters/llama_4_scaling_beta",
                "0.35"},
        Setting{"ref_ministral3",
                "/rope_parameters/original_max_position_embeddings", "52"},
        Setting{"ref_exaone4", "/sliding_window", "22"},
        Setting{"ref_exaone4", "/layer_types/1", "\"sliding_attention\""},
        Setting{"ref_exaone4", "/rms_norm_eps", "0.01"},
        Setting{"ref_hunyuan", "/rope_parameters/alpha", "900"},
        Setting{"ref_hunyuan", "/rope_parameters/rope_type", "\"default\""},
        Setting{"ref_hunyuan", "/rms_norm_eps", "0.01"},
        Setting{"ref_starcoder2", "/sliding_window", "24"},
        Setting{"ref_starcoder2", "/norm_epsilon", "0.02"},
        Setting{"ref_starcoder2", "/hidden_act", "\"relu2\""},
        Setting{"ref_glm", "/rope_parameters/partial_rotary_factor", "0.75"},
        Setting{"ref_glm4", "/rope_parameters/rope_theta", "12000"},
        Setting{"ref_glm4", "/rms_norm_eps", "0.01"},
        Setting{"ref_cohere", "/logit_scale", "0.71"},
        Setting{"ref_cohere", "/layer_norm_eps", "0.02"},
        Setting{"ref_cohere2", "/sliding_window", "22"},
        Setting{"ref_cohere2", "/layer_types/1", "\"sliding_attention\""},
        Setting{"ref_ernie4_5", "/rope_parameters/rope_theta", "300000"},
        Setting{"ref_helium", "/rope_parameters/rope_theta", "60000"},
        Setting{"ref_olmo", "/rope_parameters/rope_theta", "12000"},
        Setting{"ref_olmo3", "/sliding_window", "22"},
        Setting{"ref_olmo3", "/rope_parameters/full_attention/factor", "3.5"},
        Setting{"ref_olmo3", "/rope_parameters/sliding_attention/rope_theta",
                "3600"},
        Setting{"ref_arcee", "/hidden_act", "\"silu\""},
        Setting{"ref_apertus", "/rope_parameters/factor", "7"},
        Setting{"ref_vaultgemma", "/query_pre_attn_scalar", "22"},
        Setting{"ref_vaultgemma", "/attn_logit_softcapping", "3.3"},
        Setting{"ref_vaultgemma", "/final_logit_softcapping", "4.1"},
        Setting{"ref_vaultgemma", "/sliding_window", "22"},
        Setting{"ref_nanochat", "/final_logit_softcapping", "5.1"},
        Setting{"ref_nanochat", "/rms_norm_eps", "0.01"},
        Setting{"ref_bitnet", "/rms_norm_eps", "0.01"},
        Setting{"ref_bitnet", "/hidden_act", "\"silu\""},
        Setting{"ref_jais2", "/layer_norm_eps", "0.02"},
        Setting{"ref_jais2", "/hidden_act", "\"gelu\""},
        Setting{"ref_hyperclovax", "/attention_multiplier", "null"},
        Setting{"ref_hyperclovax", "/logits_scaling", "0.81"},
        Setting{"ref_exaone", "/rope_parameters/rope_theta", "300000"},
        Setting{"ref_internlm3", "/rms_norm_eps", "0.01"},
        Setting{"ref_hyperclovax", "/residual_multiplier", "0.69"},
        Setting{"ref_gemma4", "/text_config/sliding_window", "30"},
        Setting{"ref_gemma4", "/text_config/final_logit_softcapping", "4.1"},
        Setting{"ref_gemma4", "/text_config/final_logit_softcapping", "null"},
        Setting{"ref_gemma4",
                "/text_config/rope_parameters/full_attention/rope_theta",
                "24000"},
        Setting{"ref_gemma4",
                "/text_config/rope_parameters/full_attention/"
                "partial_rotary_factor",
                "0.32"},
        Setting{"ref_gemma4",
                "/text_config/rope_parameters/full_attention/factor", "1.2"},
        Setting{"ref_gemma4",
                "/text_config/rope_parameters/sliding_attention/rope_theta",
                "600"},
        Setting{"ref_gemma4_e2b", "/text_config/sliding_window", "28"},
        Setting{"ref_gemma4_e2b", "/text_config/rms_norm_eps", "0.01"},
        Setting{"ref_gemma4_text", "/rms_norm_eps", "0.01"},
        Setting{"ref_gemma3n", "/text_config/sliding_window", "28"},
        Setting{"ref_gemma3n", "/text_config/rms_norm_eps", "0.01"},
        Setting{"ref_gemma3n", "/text_config/altup_correct_scale", "false"},
        Setting{"ref_gemma3n", "/text_config/activation_sparsity_pattern/0",
                "0.75"},
        Setting{"ref_gemma3n", "/text_config/activation_sparsity_pattern/1",
                "0"},
        Setting{"ref_gemma3n", "/text_config/final_logit_softcapping", "4.1"},
        Setting{"ref_gemma3n", "/text_config/final_logit_softcapping", "null"},
        Setting{"ref_gemma3n",
                "/text_config/rope_parameters/full_attention/rope_theta",
                "24000"},
        Setting{"ref_gemma3n",
                "/text_config/rope_parameters/sliding_attention/rope_theta",
                "600"},
        Setting{"ref_gemma3n_text", "/altup_active_idx", "0"},
        Setting{"ref_gemma3n_text", "/activation_sparsity_pattern/2", "0.95"},
        Setting{"ref_qwen3_moe", "/norm_topk_prob", "false"},
        Setting{"ref_qwen3_moe", "/num_experts_per_tok", "3"},
        Setting{"ref_mixtral", "/num_experts_per_tok", "1"},
        Setting{"ref_olmoe", "/norm_topk_prob", "true"},
        Setting{"ref_olmoe", "/num_experts_per_tok", "2"},
        Setting{"ref_qwen2_moe", "/norm_topk_prob", "true"},
        Setting{"ref_granitemoe", "/residual_multiplier", "0.69"},
        Setting{"ref_granitemoeshared", "/num_experts_per_tok", "3"},
        Setting{"ref_ernie4_5_moe", "/moe_k", "1"},
        Setting{"ref_ernie4_5_moe", "/moe_norm_min", "0.95"},
        Setting{"ref_glm4_moe", "/routed_scaling_factor", "1.6"},
        Setting{"ref_glm4_moe", "/norm_topk_prob", "false"},
        Setting{"ref_glm4_moe", "/topk_group", "3"},
        Setting{"ref_glm4_moe", "/n_group", "2"},
        Setting{"ref_smollm3", "/no_rope_layers/1", "1"},
        Setting{"ref_smollm3", "/no_rope_layers/2", "0"},
        Setting{"ref_smollm3_window", "/sliding_window", "22"},
        Setting{"ref_smollm3_window", "/layer_types/1", "\"full_attention\""}));

// The file names tensors as the hub does; these are the names of the module.
TEST(Reference, OtherNamesOfATextModelInsideAMultimodalOne) {
  const std::string path = ModelPath("ref_gemma3_multimodal");
  const std::string file = ReadFile(path + "/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const json header = json::parse(file.substr(sizeof(length), length));
  const std::string old = "language_model.model.";
  json renamed;
  for (const auto& [name, tensor] : header.items()) {
    const bool text = name.starts_with(old);
    renamed[text ? "model.language_model." + name.substr(old.size()) : name] =
        tensor;
  }
  EXPECT_NE(renamed, header);
  const std::string dumped = renamed.dump();
  const uint64_t size = dumped.size();
  std::string changed(sizeof(size), '\0');
  std::memcpy(changed.data(), &size, sizeof(size));
  const TempDir dir;
  dir.Write("config.json", ReadFile(path + "/config.json"));
  dir.Write("model.safetensors",
            changed + dumped + file.substr(sizeof(length) + length));
  const Tokens tokens = SomeTokens(100, 1000, 1);
  Opened original(path);
  Opened other(dir.path());
  EXPECT_EQ(ScoreNew(other.reference, tokens),
            ScoreNew(original.reference, tokens));
}

// Those of layer 1 that the token does not take hold no numbers at all.
TEST(Reference, ReadsTheExpertsThatAreTakenAndNoOthers) {
  const std::string path = ModelPath("ref_mixtral");
  const Tokens tokens = {7};
  std::vector<float> weights;
  Opened original(path);
  Sequence sequence = original.reference.NewSequence();
  const Reference::Item item = {&sequence, tokens, 1};
  Rows expected;
  original.reference.Score(
      std::span(&item, 1),
      [&](size_t, int64_t, std::span<const float> logits) {
        expected.emplace_back(logits.begin(), logits.end());
      },
      [&](const Captured& captured) {
        if (captured.stage != Stage::kExpertWeights || captured.layer != 1) {
          return;
        }
        weights.assign(captured.values.begin(), captured.values.end());
      });
  ASSERT_EQ(weights.size(), 4u);
  std::string file = ReadFile(path + "/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const json header = json::parse(file.substr(sizeof(length), length));
  int others = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] != 0) continue;
    for (const char* part : {"w1", "w2", "w3"}) {
      const json& offsets =
          header.at("model.layers.1.block_sparse_moe.experts." +
                    std::to_string(i) + "." + part + ".weight")["data_offsets"];
      const auto begin = sizeof(length) + length + offsets[0].get<size_t>();
      std::fill_n(file.begin() + static_cast<int64_t>(begin),
                  offsets[1].get<int64_t>() - offsets[0].get<int64_t>(),
                  '\xff');
      ++others;
    }
  }
  ASSERT_EQ(others, 2 * 3);
  const TempDir dir;
  dir.Write("config.json", ReadFile(path + "/config.json"));
  dir.Write("model.safetensors", file);
  Opened other(dir.path());
  EXPECT_EQ(ScoreNew(other.reference, tokens), expected);
}

class Truncate : public testing::TestWithParam<std::string> {};

TEST_P(Truncate, RewindsToAnyPosition) {
  Opened opened(ModelPath(GetParam()));
  const Tokens tokens = SomeTokens(50, 1000, 1);
  Sequence sequence = opened.reference.NewSequence();
  const Rows whole = Score(opened.reference, sequence, tokens);
  for (const int64_t length : {49, 20, 1, 0}) {
    Score(opened.reference, sequence, SomeTokens(9, 1000, 5), 1);
    sequence.Truncate(length);
    EXPECT_EQ(sequence.length(), length);
    const Rows again = Score(opened.reference, sequence,
                             Tokens(tokens.begin() + length, tokens.end()));
    EXPECT_LE(MaxDifference(again, Rows(whole.begin() + length, whole.end())),
              kSame);
  }
  for (const int64_t length : {-1, 51}) {
    EXPECT_THAT([&] { sequence.Truncate(length); },
                ThrowsMessage<Error>(HasSubstr("cannot truncate")));
  }
}

// What a convolution sees of the tokens before, too.
INSTANTIATE_TEST_SUITE_P(Reference, Truncate,
                         testing::Values("ref_gqa_tied", "ref_lfm2_bias"),
                         [](const auto& info) { return info.param; });

TEST(Reference, LogitRowsAreTheLastOnes) {
  Opened opened(ModelPath("ref_mha_untied"));
  const Tokens tokens = SomeTokens(33, 1000, 1);
  const Rows whole = ScoreNew(opened.reference, tokens);
  for (const int64_t count : {0, 1, 2, 32, 33}) {
    Sequence sequence = opened.reference.NewSequence();
    const Rows rows = Score(opened.reference, sequence, tokens, count);
    EXPECT_LE(MaxDifference(rows, Rows(whole.end() - count, whole.end())),
              kSame);
  }
}

TEST(Reference, TheSamePassGivesTheSameBits) {
  const std::string path = ModelPath("ref_bf16");
  Opened one(path, 1);
  Opened two(path, 2);
  for (const int64_t count : {1, 5, 40, 300}) {
    const Tokens tokens = SomeTokens(count, 1000, 1);
    const Rows first = ScoreNew(two.reference, tokens);
    EXPECT_EQ(first, ScoreNew(two.reference, tokens));
    EXPECT_LE(MaxDifference(first, ScoreNew(one.reference, tokens)), kSame);
  }
}

// Checkpoints made here.

struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using Tensors = std::map<std::string, Tensor>;

std::string Safetensors(const Tensors& tensors) {
  json header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.values.data()),
                tensor.values.size() * sizeof(float));
    header[name] = {{"dtype", "F32"},
                    {"shape", tensor.shape},
                    {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file + text + data;
}

// A two-layer Llama with GQA, biases and every size different, so that a
// swapped dimension cannot go unnoticed.
constexpr char kSmall[] = R"({
  "model_type": "llama", "vocab_size": 19, "hidden_size": 10,
  "intermediate_size": 14, "num_hidden_layers": 2, "num_attention_heads": 6,
  "num_key_value_heads": 2, "head_dim": 4, "rms_norm_eps": 0.01,
  "rope_theta": 100, "attention_bias": true, "mlp_bias": true
})";

Tensors SmallTensors() {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Tensors tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    Tensor& tensor = tensors[name] = {std::move(shape), {}};
    for (int64_t i = 0; i < count; ++i) {
      tensor.values.push_back(normal(random) * 0.6F);
    }
  };
  const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  };
  add("model.embed_tokens.weight", {19, 10});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(layer + "input_layernorm.weight", {10});
    add(layer + "post_attention_layernorm.weight", {10});
    linear(layer + "self_attn.q_proj", 24, 10);
    linear(layer + "self_attn.k_proj", 8, 10);
    linear(layer + "self_attn.v_proj", 8, 10);
    linear(layer + "self_attn.o_proj", 10, 24);
    linear(layer + "mlp.gate_proj", 14, 10);
    linear(layer + "mlp.up_proj", 14, 10);
    linear(layer + "mlp.down_proj", 10, 14);
  }
  add("model.norm.weight", {10});
  add("lm_head.weight", {19, 10});
  return tensors;
}

// The small model in plain loops and double precision.
class PlainModel {
 public:
  explicit PlainModel(const Tensors& tensors) : tensors_(tensors) {}

  std::vector<std::vector<double>> Logits(const Tokens& tokens) const {
    Matrix x;
    for (const int32_t token : tokens) {
      x.push_back(Row("model.embed_tokens.weight", token, 10));
    }
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
      Add(x, Attention(layer + "self_attn.",
                       Norm(x, layer + "input_layernorm.weight")));
      Add(x, Mlp(layer + "mlp.",
                 Norm(x, layer + "post_attention_layernorm.weight")));
    }
    Matrix logits;
    for (const auto& row : Norm(x, "model.norm.weight")) {
      logits.push_back(Apply("lm_head", row));
    }
    return logits;
  }

 private:
  using Vector = std::vector<double>;
  using Matrix = std::vector<Vector>;

  Vector Row(const std::string& name, int64_t row, int64_t size) const {
    const auto& values = tensors_.at(name).values;
    return {values.begin() + row * size, values.begin() + (row + 1) * size};
  }

  Vector Apply(const std::string& name, const Vector& x) const {
    const Tensor& weight = tensors_.at(name + ".weight");
    const auto bias = tensors_.find(name + ".bias");
    Vector y;
    for (int64_t o = 0; o < weight.shape[0]; ++o) {
      double sum = bias == tensors_.end() ? 0 : bias->second.values[o];
      for (size_t i = 0; i < x.size(); ++i) {
        sum += x[i] * weight.values[o * x.size() + i];
      }
      y.push_back(sum);
    }
    return y;
  }

  Matrix Norm(Matrix x, const std::string& name) const {
    for (Vector& row : x) {
      double mean = 0;
      for (const double value : row) mean += value * value / 10;
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] *= tensors_.at(name).values[i] / std::sqrt(mean + 0.01);
      }
    }
    return x;
  }

  static void Add(Matrix& x, const Matrix& y) {
    for (size_t r = 0; r < x.size(); ++r) {
      for (size_t i = 0; i < x[r].size(); ++i) x[r][i] += y[r][i];
    }
  }

  // Pairs (i, i + 2) of each head of 4 turn by position / 100^(i / 2).
  static void Rotate(Vector& heads, size_t position) {
    for (size_t head = 0; head < heads.size(); head += 4) {
      for (size_t i = 0; i < 2; ++i) {
        const double angle =
            static_cast<double>(position) / std::pow(100, i / 2.0);
        const double a = heads[head + i];
        const double b = heads[head + i + 2];
        heads[head + i] = a * std::cos(angle) - b * std::sin(angle);
        heads[head + i + 2] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  }

  Matrix Attention(const std::string& name, const Matrix& x) const {
    Matrix keys;
    Matrix values;
    Matrix result;
    for (size_t row = 0; row < x.size(); ++row) {
      Vector query = Apply(name + "q_proj", x[row]);
      keys.push_back(Apply(name + "k_proj", x[row]));
      values.push_back(Apply(name + "v_proj", x[row]));
      Rotate(query, row);
      Rotate(keys.back(), row);
      Vector mixed(24);
      for (size_t head = 0; head < 6; ++head) {
        const size_t shared = head / 3 * 4;  // 3 query heads to a key head
        Vector scores;
        double total = 0;
        for (const Vector& key : keys) {
          double score = 0;
          for (size_t i = 0; i < 4; ++i) {
            score += query[head * 4 + i] * key[shared + i] / 2;  // sqrt(4)
          }
          scores.push_back(std::exp(score));
          total += scores.back();
        }
        for (size_t k = 0; k < keys.size(); ++k) {
          for (size_t i = 0; i < 4; ++i) {
            mixed[head * 4 + i] += scores[k] / total * values[k][shared + i];
          }
        }
      }
      result.push_back(Apply(name + "o_proj", mixed));
    }
    return result;
  }

  Matrix Mlp(const std::string& name, const Matrix& x) const {
    Matrix result;
    for (const Vector& row : x) {
      Vector gate = Apply(name + "gate_proj", row);
      const Vector up = Apply(name + "up_proj", row);
      for (size_t i = 0; i < gate.size(); ++i) {
        gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      }
      result.push_back(Apply(name + "down_proj", gate));
    }
    return result;
  }

  const Tensors& tensors_;
};

TEST(Reference, EqualsPlainLoopsInDouble) {
  const TempDir dir;
  dir.Write("config.json", kSmall);
  const Tensors tensors = SmallTensors();
  dir.Write("model.safetensors", Safetensors(tensors));
  Opened opened(dir.path());
  Opened with_aten(dir.path(), 2, kAlwaysAten);
  const Tokens tokens = SomeTokens(21, 19, 4);
  const auto expected = PlainModel(tensors).Logits(tokens);
  // One pass, and token by token.
  Rows stepped;
  Sequence sequence = opened.reference.NewSequence();
  for (const int32_t token : tokens) {
    stepped.push_back(Score(opened.reference, sequence, {token})[0]);
  }
  for (const Rows& got : {ScoreNew(opened.reference, tokens),
                          ScoreNew(with_aten.reference, tokens), stepped}) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t row = 0; row < got.size(); ++row) {
      for (size_t i = 0; i < 19; ++i) {
        ASSERT_NEAR(got[row][i], expected[row][i], 2e-5) << row << " " << i;
      }
    }
  }
}

TEST(Reference, ATiedHeadIsTheEmbedding) {
  const TempDir dir;
  json config = json::parse(kSmall);
  Tensors tensors = SmallTensors();
  tensors["lm_head.weight"].values =
      tensors["model.embed_tokens.weight"].values;
  dir.Write("config.json", config.dump());
  dir.Write("model.safetensors", Safetensors(tensors));
  Opened untied(dir.path());
  const TempDir tied_dir;
  config["tie_word_embeddings"] = true;
  tied_dir.Write("config.json", config.dump());
  tensors.erase("lm_head.weight");
  tied_dir.Write("model.safetensors", Safetensors(tensors));
  Opened tied(tied_dir.path());
  const Tokens tokens = {3, 1, 4, 1, 5};
  EXPECT_EQ(ScoreNew(tied.reference, tokens),
            ScoreNew(untied.reference, tokens));
}

TEST(Reference, AHeadInTheFileWinsOverTying) {
  const TempDir dir;
  json config = json::parse(kSmall);
  const Tensors tensors = SmallTensors();
  dir.Write("config.json", config.dump());
  dir.Write("model.safetensors", Safetensors(tensors));
  Opened untied(dir.path());
  config["tie_word_embeddings"] = true;
  dir.Write("config.json", config.dump());
  Opened tied(dir.path());
  EXPECT_EQ(ScoreNew(tied.reference, {3, 1, 4}),
            ScoreNew(untied.reference, {3, 1, 4}));
}

TEST(Reference, OpeningNamesTheTensorThatIsMissingOrMisshapen) {
  const TempDir dir;
  dir.Write("config.json", kSmall);
  for (const auto& [name, tensor] : SmallTensors()) {
    Tensors tensors = SmallTensors();
    tensors.erase(name);
    dir.Write("model.safetensors", Safetensors(tensors));
    EXPECT_THAT([&] { Opened{dir.path()}; },
                ThrowsMessage<Error>(HasSubstr("no tensor \"" + name + "\"")));
    tensors[name] = tensor;
    tensors[name].shape.push_back(1);
    dir.Write("model.safetensors", Safetensors(tensors));
    EXPECT_THAT(
        [&] { Opened{dir.path()}; },
        ThrowsMessage<Error>(AllOf(HasSubstr("\"" + name + "\" has shape"),
                                   HasSubstr(ShapeToString(tensor.shape)))));
  }
}

TEST(Reference, RefusesAPassThatBreaksTheRulesAndChangesNothing) {
  const TempDir dir;
  dir.Write("config.json", kSmall);
  dir.Write("model.safetensors", Safetensors(SmallTensors()));
  Opened opened(dir.path());
  Opened other(dir.path());
  Sequence a = opened.reference.NewSequence();
  Sequence b = opened.reference.NewSequence();
  Sequence foreign = other.reference.NewSequence();
  const Tokens good = {1, 2, 3};
  const Tokens none;
  const auto fails = [&](std::vector<Reference::Item> items,
                         const std::string& message) {
    EXPECT_THAT(
        [&] {
          opened.reference.Score(
              items, [](size_t, int64_t, std::span<const float>) { FAIL(); });
        },
        ThrowsMessage<Error>(HasSubstr(message)));
  };
  for (const int32_t token : {-1, 19, 1 << 30}) {
    const Tokens bad = {1, token};
    fails({{&a, good, 1}, {&b, bad, 1}},
          fmt::format("token id {} is outside the vocabulary of 19", token));
  }
  fails({{&a, none, 0}}, "no tokens");
  fails({{&a, good, 4}}, "logits of 4 rows wanted, the item has 3 tokens");
  fails({{&a, good, -1}}, "logits of -1 rows");
  fails({{&a, good, 1}, {&a, good, 1}}, "twice");
  fails({{&foreign, good, 1}}, "another reference");
  EXPECT_EQ(a.length(), 0);
  EXPECT_EQ(b.length(), 0);
  opened.reference.Score({}, [](size_t, int64_t, std::span<const float>) {});
}

TEST(Reference, AFileThatChangesMeanwhileIsAnError) {
  const TempDir dir;
  dir.Write("config.json", kSmall);
  const std::string content = Safetensors(SmallTensors());
  const std::string path = dir.Write("model.safetensors", content);
  const Checkpoint checkpoint = Checkpoint::Open(dir.path());
  Reference reference = Reference::Open(checkpoint, {.num_threads = 2});
  std::filesystem::resize_file(path, content.size() / 2);
  EXPECT_THAT(
      [&] {
        ScoreNew(reference, {1, 2, 3});
      },
      ThrowsMessage<Error>(
          AllOf(HasSubstr(path), HasSubstr("become shorter"))));
  EXPECT_THAT([&] { Reference::Open(checkpoint, {.num_threads = 2}); },
              ThrowsMessage<Error>(HasSubstr("the file has changed")));
}

TEST(Reference, SurvivesACallerThatThrowsAndMoves) {
  const TempDir dir;
  dir.Write("config.json", kSmall);
  dir.Write("model.safetensors", Safetensors(SmallTensors()));
  const Checkpoint checkpoint = Checkpoint::Open(dir.path());
  std::vector<int64_t> layers;
  Reference first = Reference::Open(
      checkpoint,
      {.num_threads = 2,
       .progress = [&](std::string_view, int64_t done, int64_t total) {
         EXPECT_EQ(total, 2);
         layers.push_back(done);
       }});
  Sequence kept = first.NewSequence();
  Reference reference = std::move(first);
  Sequence sequence = std::move(kept);
  const Tokens tokens = {1, 2, 3};
  const Reference::Item item{&sequence, tokens, 3};
  EXPECT_THROW(reference.Score({&item, 1},
                               [](size_t, int64_t, std::span<const float>) {
                                 throw Error("enough");
                               }),
               Error);
  EXPECT_THAT(layers, testing::ElementsAre(1, 2));
  EXPECT_EQ(sequence.length(), 3);
  sequence.Truncate(0);
  EXPECT_EQ(Score(reference, sequence, tokens), ScoreNew(reference, tokens));
}

}  // namespace
}  // namespace verify_tflite
