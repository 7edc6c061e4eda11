#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_file.h"
#include "base/testing.h"
#include "candidate/session.h"
#include "candidate/stderr_capture.h"
#include "candidate/testing_models.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;

// EXPECT_EQ on floats would take -0 for 0 and print a million numbers.
bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

float MaxDifference(std::span<const float> a, std::span<const float> b) {
  float worst = a.size() == b.size() ? 0.0f : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    const float difference = std::fabs(a[i] - b[i]);
    // A NaN must not pass.
    if (!(difference <= worst)) worst = difference;
  }
  return worst;
}

std::string MessageOf(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// Against what LiteRT's Python interface computed from the same file.
class RecordedTest : public testing::TestWithParam<const char*> {};

void CheckPlan(const Model& model, const nlohmann::json& expected,
               size_t count) {
  const PrefillPlan plan = Plan(model, 0, count);
  ASSERT_EQ(plan.chunks.size(), expected.size());
  EXPECT_EQ(plan.decode_tail, 0);
  for (size_t i = 0; i < expected.size(); ++i) {
    const PrefillChunk& chunk = plan.chunks[i];
    EXPECT_EQ(model.info().prefills[chunk.prefill].name,
              expected[i]["signature"]);
    EXPECT_EQ(chunk.begin, expected[i]["begin"]);
    EXPECT_EQ(chunk.count, expected[i]["count"]);
  }
}

// All cases recorded under that name.
void CheckRecorded(const std::string& name, Session& session,
                   const Model& model, bool plan_as_recorded = true) {
  const auto recorded =
      ReadJsonFile(ExpectedPath("candidate/" + name + ".json"));
  EXPECT_EQ(model.info().vocab_size, recorded["vocab_size"]);
  ASSERT_FALSE(recorded["cases"].empty());
  for (const auto& expected : recorded["cases"]) {
    SCOPED_TRACE(expected["name"]);
    const auto prompt = expected["prompt_ids"].get<Tokens>();
    if (plan_as_recorded) {
      CheckPlan(model, expected["prefill"], prompt.size() - 1);
    }
    KvCache kv = session.NewKvCache();
    Tokens chosen;
    const std::vector<float> logits =
        Generate(session, kv, prompt, expected["steps"], &chosen);
    EXPECT_EQ(chosen, expected["chosen_ids"].get<Tokens>());
    const std::vector<float> python = ReadFloats(ExpectedPath(
        "candidate/" + expected["logits_file"].get<std::string>()));
    EXPECT_TRUE(SameBits(logits, python))
        << "largest difference " << MaxDifference(logits, python);
  }
}

TEST_P(RecordedTest, LogitsAreThoseOfThePythonInterface) {
  const std::string stem = GetParam();
  const Model model = Model::Open(ModelPath(stem + ".tflite"));
  Session session = WholeSession(model, {.num_threads = 2});
  CheckRecorded(stem, session, model);
}

INSTANTIATE_TEST_SUITE_P(
    Models, RecordedTest,
    testing::Values("tiny_f32", "tiny_single", "tiny_mask", "tiny_transposed",
                    "tiny_mask_transposed", "tiny_prefill_logits",
                    "tiny_export_hf", "tiny_q8", "smollm2_f32", "smollm2_q8",
                    "smollm2_fp16", "smollm2_q8_wo", "tiny_hf_logits",
                    "tiny_hf_gpu", "tiny_hf_caches", "tiny_batch", "small_lora",
                    "tiny_kv_float16", "tiny_kv_int8"),
    [](const auto& info) { return std::string(info.param); });

TEST(EmbedderTest, OneSignatureForEachLength) {
  const Model model = Model::Open(ModelPath("tiny_hf_embedder/model.tflite"));
  EXPECT_EQ(model.info().embedder_path,
            ModelPath("tiny_hf_embedder/embedder.tflite"));
  Session session = WholeSession(model, {.num_threads = 2});
  CheckRecorded("tiny_hf_embedder", session, model);
}

TEST(EmbedderTest, OneSignatureForASingleToken) {
  const Model model =
      Model::Open(ModelPath("tiny_hf_embedder_q8/model_quantized.tflite"));
  EXPECT_EQ(model.info().embedder_path,
            ModelPath("tiny_hf_embedder_q8/embedder_quantized.tflite"));
  Session session = WholeSession(model, {.num_threads = 2});
  CheckRecorded("tiny_hf_embedder_q8", session, model);
}

// The same models, wherever they are.
TEST(EmbedderTest, InABundle) {
  for (const char* name : {"tiny_hf_embedder.litertlm", "tiny_embedder.task"}) {
    const Model model = Model::Open(ModelPath(name));
    EXPECT_EQ(model.info().embedder_path, ModelPath(name) + ": embedder");
    Session session = WholeSession(model, {.num_threads = 2});
    CheckRecorded("tiny_hf_embedder", session, model);
  }
}

// A model that takes the sum of what the two embedders make of a token.
TEST(EmbedderTest, TwoOfThem) {
  for (const char* name :
       {"tiny_two_embedders/model.tflite", "tiny_two_embedders.litertlm"}) {
    const Model model = Model::Open(ModelPath(name));
    EXPECT_THAT(model.info().per_layer_embedder_path,
                HasSubstr("per_layer_embedder"));
    Session session = WholeSession(model, {.num_threads = 2});
    CheckRecorded("tiny_hf_embedder", session, model);
  }
}

TEST(EmbedderTest, NamedByTheCaller) {
  const std::string embedder =
      ModelPath("tiny_hf_embedder_q8/embedder_quantized.tflite");
  const Model model = Model::Open(ModelPath("tiny_hf_embedder/model.tflite"),
                                  {.embedder_path = embedder});
  EXPECT_EQ(model.info().embedder_path, embedder);
  Session session = WholeSession(model);
  KvCache kv = session.NewKvCache();
  EXPECT_EQ(Generate(session, kv, SomeTokens(20), 2).size(), 2u * 49152);
}

TEST(EmbedderTest, RefusesAnotherFile) {
  const std::string path = ModelPath("tiny_hf_embedder/model.tflite");
  const auto message = [&](const std::string& embedder) {
    return MessageOf([&] { Model::Open(path, {.embedder_path = embedder}); });
  };
  EXPECT_THAT(message(ModelPath("tiny_f32.tflite")),
              HasSubstr("tiny_f32.tflite: is no embedder"));
  EXPECT_THAT(message("nowhere.tflite"), HasSubstr("nowhere.tflite"));
  const TempDir dir;
  const std::string whole =
      ReadFile(ModelPath("tiny_hf_embedder/embedder.tflite"));
  for (size_t kept = 8; kept < whole.size(); kept += whole.size() / 7) {
    EXPECT_THAT(message(dir.Write("cut.tflite", whole.substr(0, kept))),
                ::testing::AllOf(HasSubstr("cut.tflite"),
                                 HasSubstr("INVALID_FLATBUFFER")));
  }
  const std::string alone = dir.Write("model.tflite", ReadFile(path));
  EXPECT_THAT(MessageOf([&] { Model::Open(alone); }),
              ::testing::AllOf(HasSubstr("takes \"embeddings\""),
                               HasSubstr(dir.File("embedder.tflite"))));
  const std::string other = dir.Write("other.tflite", ReadFile(path));
  EXPECT_THAT(MessageOf([&] { Model::Open(other); }),
              HasSubstr("Name that file"));
}

class RingTest : public testing::Test {
 protected:
  Model model_ = Open(ModelPath("small_ring.tflite"), 24);
  Session session_ = WholeSession(model_, {.num_threads = 2});

  Tokens Prompt(size_t count) {
    Tokens tokens = SomeTokens(count);
    for (int32_t& token : tokens) token %= 1000;
    return tokens;
  }
};

TEST_F(RingTest, LogitsAreThoseOfThePythonInterface) {
  EXPECT_EQ(model_.info().ring_length, 32);
  EXPECT_EQ(model_.info().kv_length, 256);
  EXPECT_EQ(model_.info().notes.size(), 1u);
  CheckRecorded("small_ring", session_, model_, /*plan_as_recorded=*/false);
}

// A prompt longer than the ring, by chunks longer than it, shorter ones, and
// single steps.
TEST_F(RingTest, ChunksAgreeWithSingleSteps) {
  const Tokens prompt = Prompt(100);
  KvCache a = session_.NewKvCache();
  const std::vector<float> chunked = Generate(session_, a, prompt, 8);
  KvCache b = session_.NewKvCache();
  for (size_t i = 0; i + 1 < prompt.size(); ++i) session_.Decode(b, prompt[i]);
  EXPECT_LT(MaxDifference(chunked, Generate(session_, b, {prompt.back()}, 8)),
            1e-3f);
}

TEST_F(RingTest, TruncateAndFeedAgainIsAFreshRun) {
  const Tokens prompt = Prompt(60);
  KvCache fresh = session_.NewKvCache();
  session_.Prefill(fresh, prompt);
  const std::vector<float> expected = Copy(session_.Decode(fresh, 30));

  KvCache kv = session_.NewKvCache();
  session_.Prefill(kv, prompt);
  for (int32_t token = 500; token < 520; ++token) session_.Decode(kv, token);
  kv.Truncate(60);
  EXPECT_EQ(kv.length(), 60);
  EXPECT_TRUE(SameBits(session_.Decode(kv, 30), expected));
  EXPECT_EQ(kv.length(), 61);
  kv.Truncate(50);
  kv.Truncate(40);
  session_.Prefill(kv, std::span(prompt).subspan(40));
  EXPECT_LT(MaxDifference(session_.Decode(kv, 30), expected), 1e-3f);
}

TEST_F(RingTest, KeepsItsLastPositions) {
  const Tokens prompt = Prompt(70);
  KvCache kv = session_.NewKvCache();
  session_.Prefill(kv, prompt);
  const KvRows ring = session_.ReadKv(kv, 0);
  EXPECT_EQ(ring.first, 70 - 32);
  EXPECT_EQ(ring.length, 32);
  EXPECT_EQ(session_.ReadKv(kv, 1).first, 0);
  EXPECT_THAT(MessageOf([&] { session_.ReadKv(kv, 4); }),
              HasSubstr("no KV cache of layer 4"));

  // Cut back to where the ring had other positions, which are fed anew.
  kv.Truncate(50);
  const KvRows again = session_.ReadKv(kv, 0);
  EXPECT_EQ(again.first, 50 - 32);
  KvCache fresh = session_.NewKvCache();
  session_.Prefill(fresh, std::span(prompt).first(50));
  EXPECT_LT(MaxDifference(again.keys, session_.ReadKv(fresh, 0).keys), 1e-3f);
}

TEST_F(RingTest, WantsTheWindow) {
  const std::string path = ModelPath("small_ring.tflite");
  EXPECT_THAT(MessageOf([&] { Model::Open(path); }),
              HasSubstr("sliding_window"));
  EXPECT_THAT(MessageOf([&] { Open(path, 33); }),
              HasSubstr("expected 1 to 32"));
}

// Prefill has one sequence's KV caches and decode two's.
TEST(BatchTest, PrefillAfterDecodeGoesOn) {
  const Model model = Model::Open(ModelPath("tiny_batch.tflite"));
  EXPECT_EQ(model.info().decode_batch, 2);
  EXPECT_EQ(model.info().notes.size(), 1u);
  // 4 layers, keys and values, 257 positions, 2 heads of 16, float32, once for
  // prefill and twice for decode.
  EXPECT_EQ(model.info().kv_bytes, 4 * 2 * 257 * 2 * 16 * 4 * 3);
  Session session = WholeSession(model);
  const Tokens prompt = SomeTokens(40);
  KvCache a = session.NewKvCache();
  session.Prefill(a, prompt);
  const std::vector<float> expected = Copy(session.Decode(a, 300));

  KvCache b = session.NewKvCache();
  session.Prefill(b, std::span(prompt).first(20));
  session.Decode(b, prompt[20]);
  session.Prefill(b, std::span(prompt).subspan(21));
  EXPECT_LT(MaxDifference(session.Decode(b, 300), expected), 1e-3f);
  b.Truncate(0);
  session.Prefill(b, prompt);
  EXPECT_TRUE(SameBits(session.Decode(b, 300), expected));
}

// One small model for all that follows.
class SessionTest : public testing::Test {
 protected:
  static constexpr size_t kKvLength = 256;

  Model model_ = Model::Open(ModelPath("tiny_f32.tflite"));
  Session session_ = WholeSession(model_);
};

TEST_F(SessionTest, ThreadsDoNotChangeTheResult) {
  Session two = WholeSession(model_, {.num_threads = 2});
  KvCache a = session_.NewKvCache();
  KvCache b = two.NewKvCache();
  EXPECT_TRUE(SameBits(Generate(session_, a, SomeTokens(80), 3),
                       Generate(two, b, SomeTokens(80), 3)));
}

TEST_F(SessionTest, ChunksChooseTheTokensThatSingleStepsChoose) {
  const Tokens prompt = SomeTokens(151);
  Tokens by_chunks;
  KvCache a = session_.NewKvCache();
  const std::vector<float> chunked =
      Generate(session_, a, prompt, 8, &by_chunks);

  KvCache b = session_.NewKvCache();
  for (size_t i = 0; i + 1 < prompt.size(); ++i) session_.Decode(b, prompt[i]);
  Tokens by_steps;
  const std::vector<float> stepped =
      Generate(session_, b, {prompt.back()}, 8, &by_steps);
  EXPECT_EQ(by_chunks, by_steps);
  EXPECT_LT(MaxDifference(chunked, stepped), 1e-3f);
}

TEST_F(SessionTest, CachesDoNotDisturbEachOther) {
  const Tokens first = SomeTokens(30, 1);
  const Tokens second = SomeTokens(70, 2);
  KvCache alone = session_.NewKvCache();
  const std::vector<float> expected = Generate(session_, alone, first, 4);

  KvCache a = session_.NewKvCache();
  KvCache b = session_.NewKvCache();
  session_.Prefill(a, std::span(first).first(first.size() - 1));
  session_.Prefill(b, std::span(second).first(second.size() - 1));
  std::vector<float> logits;
  int32_t token = first.back();
  for (int i = 0; i < 4; ++i) {
    const std::vector<float> step = Copy(session_.Decode(a, token));
    session_.Decode(b, second.back());
    logits.insert(logits.end(), step.begin(), step.end());
    token = Best(step);
  }
  EXPECT_TRUE(SameBits(logits, expected));
  EXPECT_EQ(a.length(), 33);
  EXPECT_EQ(b.length(), 73);
}

TEST_F(SessionTest, EarlierTextsLeaveNothingBehind) {
  const auto run = [&](int32_t seed) {
    KvCache kv = session_.NewKvCache();
    return Generate(session_, kv, SomeTokens(90, seed), 3);
  };
  const std::vector<float> first = run(1);
  EXPECT_FALSE(SameBits(first, run(2)));
  EXPECT_TRUE(SameBits(first, run(1)));
}

TEST_F(SessionTest, TruncateAndFeedAgainIsAFreshRun) {
  const Tokens prompt = SomeTokens(40);
  KvCache fresh = session_.NewKvCache();
  session_.Prefill(fresh, prompt);
  session_.Decode(fresh, 300);
  const std::vector<float> expected = Copy(session_.Decode(fresh, 400));

  KvCache kv = session_.NewKvCache();
  session_.Prefill(kv, prompt);
  for (int32_t token = 500; token < 520; ++token) session_.Decode(kv, token);
  kv.Truncate(40);
  EXPECT_EQ(kv.length(), 40);
  session_.Decode(kv, 300);
  EXPECT_TRUE(SameBits(session_.Decode(kv, 400), expected));

  // From the start, over the leftovers of a longer text.
  kv.Truncate(0);
  session_.Prefill(kv, prompt);
  session_.Decode(kv, 300);
  EXPECT_TRUE(SameBits(session_.Decode(kv, 400), expected));

  EXPECT_THROW(kv.Truncate(43), Error);
  EXPECT_THROW(kv.Truncate(-1), Error);
}

TEST_F(SessionTest, SessionsAndCachesMove) {
  const Tokens prompt = SomeTokens(9);
  KvCache kv = session_.NewKvCache();
  const std::vector<float> expected = Generate(session_, kv, prompt, 1);
  Model model = std::move(model_);
  Session session = std::move(session_);
  KvCache other = session.NewKvCache();
  session.Prefill(other, std::span(prompt).first(8));
  KvCache moved = std::move(other);
  EXPECT_TRUE(SameBits(session.Decode(moved, prompt.back()), expected));
}

TEST_F(SessionTest, TheCacheCanBeFilledToTheLastPosition) {
  const Tokens prompt = SomeTokens(kKvLength);
  KvCache a = session_.NewKvCache();
  // 3 full chunks of 64, then 58 in a padded one that ends with the cache.
  session_.Prefill(a, std::span(prompt).first(250));
  EXPECT_EQ(a.length(), 250);
  // No signature fits the last 6 positions.
  const std::vector<float> last =
      Copy(session_.Prefill(a, std::span(prompt).subspan(250)));
  EXPECT_EQ(a.length(), 256);

  KvCache b = session_.NewKvCache();
  std::span<const float> expected;
  for (const int32_t token : prompt) expected = session_.Decode(b, token);
  EXPECT_LT(MaxDifference(last, expected), 1e-3f);

  EXPECT_THAT(MessageOf([&] { session_.Decode(a, 5); }),
              HasSubstr("do not fit the KV cache of 256 positions"));
  EXPECT_EQ(a.length(), 256);
}

TEST_F(SessionTest, FullChunkThenTailNearTheEnd) {
  const Tokens prompt = SomeTokens(kKvLength);
  KvCache a = session_.NewKvCache();
  session_.Prefill(a, std::span(prompt).first(245));
  // 8 fits once, then 3 positions are left for 2 tokens.
  const std::vector<float> last =
      Copy(session_.Prefill(a, std::span(prompt).subspan(245, 10)));
  EXPECT_EQ(a.length(), 255);

  KvCache b = session_.NewKvCache();
  session_.Prefill(b, std::span(prompt).first(192));
  std::span<const float> expected;
  for (size_t i = 192; i < 255; ++i) {
    expected = session_.Decode(b, prompt[i]);
  }
  EXPECT_LT(MaxDifference(last, expected), 1e-3f);
}

TEST_F(SessionTest, RefusesBeforeAnyWork) {
  int reports = 0;
  Session session = WholeSession(
      model_,
      {.progress = [&](std::string_view, int64_t, int64_t) { ++reports; }});
  KvCache kv = session.NewKvCache();
  EXPECT_THAT(
      MessageOf([&] { session.Prefill(kv, SomeTokens(kKvLength + 1)); }),
      ::testing::AllOf(HasSubstr("tiny_f32.tflite"),
                       HasSubstr("257 tokens from position 0")));
  Tokens prompt = SomeTokens(100);
  prompt[99] = 49152;
  EXPECT_THAT(MessageOf([&] { session.Prefill(kv, prompt); }),
              HasSubstr("token 49152 is outside the model's vocabulary"));
  EXPECT_THAT(MessageOf([&] { session.Decode(kv, -1); }),
              HasSubstr("token -1 is outside"));
  EXPECT_EQ(kv.length(), 0);
  EXPECT_EQ(reports, 0);
  session.Decode(kv, 49151);
}

TEST_F(SessionTest, CompilesOnlyWhatThePlansUse) {
  const PrefillPlan plan = Plan(model_, 0, 60);
  Session session = Session::Create(model_, {&plan, 1}, {});
  KvCache kv = session.NewKvCache();
  EXPECT_THAT(MessageOf([&] { session.Prefill(kv, SomeTokens(5)); }),
              HasSubstr("signature \"prefill_8\": was not compiled"));
  EXPECT_EQ(kv.length(), 0);
  session.Prefill(kv, SomeTokens(60));
  EXPECT_EQ(kv.length(), 60);

  Session decode_only = Session::Create(model_, {}, {});
  KvCache other = decode_only.NewKvCache();
  decode_only.Decode(other, 5);
}

TEST_F(SessionTest, ReportsChunksAndTail) {
  std::vector<std::pair<int64_t, int64_t>> reports;
  Session session = WholeSession(
      model_,
      {.progress = [&](std::string_view stage, int64_t done, int64_t total) {
        EXPECT_EQ(stage, "prefill");
        reports.emplace_back(done, total);
      }});
  KvCache kv = session.NewKvCache();
  session.Prefill(kv, SomeTokens(250));
  using Pairs = decltype(reports);
  EXPECT_EQ(reports, (Pairs{{1, 4}, {2, 4}, {3, 4}, {4, 4}}));
  reports.clear();
  session.Prefill(kv, SomeTokens(2));
  EXPECT_EQ(reports, (Pairs{{1, 2}, {2, 2}}));
  EXPECT_TRUE(session.Prefill(kv, {}).empty());
}

TEST_F(SessionTest, NothingReachesStandardError) {
  const StderrCapture capture;
  Session session = WholeSession(model_);
  KvCache kv = session.NewKvCache();
  Generate(session, kv, SomeTokens(20), 2);
  EXPECT_EQ(capture.Text(1000), "");
}

// Prefill logits, against those of decode for the same token.
TEST(PrefillLogitsTest, RowOfTheLastTokenThatIsNoPad) {
  const Model model = Model::Open(ModelPath("tiny_prefill_logits.tflite"));
  for (const PrefillInfo& prefill : model.info().prefills) {
    EXPECT_EQ(prefill.logit_rows, prefill.length);
  }
  Session session = WholeSession(model);
  for (const size_t count : {1u, 5u, 8u, 64u, 70u, 72u}) {
    const Tokens prompt = SomeTokens(count);
    KvCache a = session.NewKvCache();
    const std::vector<float> logits = Copy(session.Prefill(a, prompt));
    KvCache b = session.NewKvCache();
    EXPECT_LT(MaxDifference(logits, Generate(session, b, prompt, 1)), 1e-3f)
        << count;
  }
}

TEST(PrefillLogitsTest, OneRowIsThatOfAFullChunk) {
  const Model model = Model::Open(ModelPath("tiny_hf_logits.tflite"));
  EXPECT_EQ(model.info().prefills[0].logit_rows, 1);
  Session session = WholeSession(model);
  for (const size_t count : {5u, 8u, 64u, 70u, 72u}) {
    const Tokens prompt = SomeTokens(count);
    KvCache a = session.NewKvCache();
    const std::vector<float> logits = Copy(session.Prefill(a, prompt));
    EXPECT_EQ(logits.empty(), count % 8 != 0) << count;
    if (logits.empty()) continue;
    KvCache b = session.NewKvCache();
    EXPECT_LT(MaxDifference(logits, Generate(session, b, prompt, 1)), 1e-3f)
        << count;
  }
}

TEST(PrefillLogitsTest, EmptyWithoutSuchAnOutput) {
  const Model model = Model::Open(ModelPath("tiny_f32.tflite"));
  Session session = WholeSession(model);
  KvCache kv = session.NewKvCache();
  EXPECT_TRUE(session.Prefill(kv, SomeTokens(64)).empty());
}

// The same weights under another layout, mask or converter.
TEST(VariantsTest, AgreeWithThePlainConversion) {
  const auto run = [](const std::string& name) {
    const Model model = Model::Open(ModelPath(name));
    Session session = WholeSession(model);
    KvCache kv = session.NewKvCache();
    // A padded chunk behind a full one.
    return Generate(session, kv, SomeTokens(100), 4);
  };
  const std::vector<float> plain = run("tiny_f32.tflite");
  for (const char* name :
       {"tiny_single.tflite", "tiny_mask.tflite", "tiny_transposed.tflite",
        "tiny_mask_transposed.tflite", "tiny_prefill_logits.tflite",
        "tiny_export_hf.tflite", "tiny_hf_logits.tflite", "tiny_hf_gpu.tflite",
        "tiny_hf_caches.tflite", "tiny_batch.tflite",
        "tiny_hf_embedder/model.tflite"}) {
    EXPECT_LT(MaxDifference(run(name), plain), 1e-3f) << name;
  }
  EXPECT_GT(MaxDifference(run("tiny_wrong_rope.tflite"), plain), 0.1f);
}

// What a convolution keeps of the tokens before has no entry for each.
class StateTest : public testing::TestWithParam<const char*> {
 protected:
  static Tokens Text(size_t count) {
    Tokens tokens(count);
    for (size_t i = 0; i < count; ++i) {
      tokens[i] = 100 + static_cast<int32_t>(i * 7919 % 800);
    }
    return tokens;
  }

  Model model_ = Model::Open(ModelPath(GetParam()));
  Session session_ = WholeSession(model_);
};

TEST_P(StateTest, PadsChangeNothing) {
  EXPECT_EQ(model_.info().num_states, 3);
  const Tokens text = Text(80);
  for (const size_t count : {1, 5, 8, 9, 63, 64, 70}) {
    KvCache padded = session_.NewKvCache();
    session_.Prefill(padded, std::span(text).first(count));
    KvCache decoded = session_.NewKvCache();
    for (size_t i = 0; i < count; ++i) session_.Decode(decoded, text[i]);
    const auto states = session_.ReadStates(padded);
    ASSERT_EQ(states.size(), 3u);
    for (const auto& [layer, state] : session_.ReadStates(decoded)) {
      EXPECT_LT(MaxDifference(state.values, states.at(layer).values), 1e-4f)
          << count << " tokens, layer " << layer;
    }
    const auto expected = Copy(session_.Decode(decoded, 50));
    EXPECT_LT(MaxDifference(session_.Decode(padded, 50), expected), 1e-3f)
        << count;
  }
}

TEST_P(StateTest, IsThatOfThePositionCutBackTo) {
  const Tokens text = Text(70);
  const auto expected = [&](size_t count) {
    KvCache kv = session_.NewKvCache();
    session_.Prefill(kv, std::span(text).first(count));
    return Copy(session_.Decode(kv, 50));
  };
  KvCache kv = session_.NewKvCache();
  session_.Prefill(kv, std::span(text).first(20));
  for (size_t i = 20; i < 70; ++i) session_.Decode(kv, text[i]);
  // A step, the end of the prefill, inside of it, nothing.
  for (const size_t length : {60, 20, 13, 0}) {
    kv.Truncate(static_cast<int64_t>(length));
    EXPECT_LT(MaxDifference(session_.Decode(kv, 50), expected(length)), 1e-3f)
        << length;
    kv.Truncate(static_cast<int64_t>(length));
  }
  EXPECT_EQ(kv.length(), 0);
  EXPECT_TRUE(SameBits(session_.Decode(kv, 50), expected(0)));
}

INSTANTIATE_TEST_SUITE_P(Models, StateTest,
                         testing::Values("ref_lfm2.tflite",
                                         "lfm2_hf/model.tflite"));

// Read from the graph: by the token, or where there are embeddings by
// positions.
TEST(PadsTest, AreWhatTheGraphTakesForPads) {
  const Model tokens = Model::Open(ModelPath("ref_lfm2.tflite"));
  EXPECT_EQ(tokens.info().pad_token, 7);
  EXPECT_FALSE(tokens.info().repeated_positions_are_pads);
  EXPECT_THAT(tokens.info().notes.at(0), HasSubstr("token 7 alone"));
  const Model embeddings = Model::Open(ModelPath("lfm2_hf/model.tflite"));
  EXPECT_EQ(embeddings.info().pad_token, std::nullopt);
  EXPECT_TRUE(embeddings.info().repeated_positions_are_pads);
  const Model none = Model::Open(ModelPath("mut_lfm2_mask_lost.tflite"));
  EXPECT_EQ(none.info().pad_token, std::nullopt);
  EXPECT_FALSE(none.info().repeated_positions_are_pads);
  const Model llama = Model::Open(ModelPath("tiny_f32.tflite"));
  EXPECT_EQ(llama.info().num_states, 0);
  EXPECT_EQ(llama.info().pad_token, std::nullopt);
}

}  // namespace
}  // namespace verify_tflite
