// Real conversions against their checkpoints: sound ones pass, wrong ones do
// not, and the speculative result is that of decoding token by token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "candidate/session.h"
#include "reference/reference.h"
#include "result/judge.h"
#include "text/chat_template.h"
#include "text/eos.h"
#include "verify/preconditions.h"
#include "verify/run.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const std::vector<std::string> kTexts = {"What is AI?", "Hello, how are you?",
                                         "Explain machine learning"};

// A checkpoint opened once, however many conversions are held against it.
struct Side {
  explicit Side(const std::string& name)
      : checkpoint(Checkpoint::Open(ModelPath(name))),
        tokenizer(Tokenizer::Open(checkpoint.directory())),
        eos_ids(ReadEosIds(checkpoint.directory(), tokenizer).ids) {
    const auto chat = ChatTemplate::FromCheckpoint(checkpoint.directory());
    for (const std::string& text : kTexts) {
      const std::string rendered = chat ? chat->Render(text) : text;
      prompts.push_back({text, rendered, tokenizer.Encode(rendered, !chat)});
    }
  }

  Checkpoint checkpoint;
  Tokenizer tokenizer;
  std::vector<int32_t> eos_ids;
  std::vector<Prompt> prompts;
};

Side& GetSide(const std::string& name) {
  static auto& sides = *new std::map<std::string, std::unique_ptr<Side>>;
  auto& side = sides[name];
  if (!side) side = std::make_unique<Side>(name);
  return *side;
}

Settings TestSettings() {
  Settings settings;
  settings.max_new_tokens = 20;
  settings.num_threads = 2;
  return settings;
}

// Without an evaluation text.
Verification Verify(const VerifyInput& input, std::span<const Prompt> prompts) {
  Verification v;
  v.model = input.model.info();
  v.limits = LimitsFor(JudgedRecipe(v.model), input.settings);
  RunVerification(input, prompts, {}, v);
  return v;
}

std::vector<PromptResult> RunAll(const std::string& tflite,
                                 const std::string& checkpoint,
                                 const Settings& settings = TestSettings()) {
  Side& side = GetSide(checkpoint);
  const Model model = Model::Open(ModelPath(tflite));
  return Verify({model, side.checkpoint, side.tokenizer, side.eos_ids, settings,
                 nullptr},
                side.prompts)
      .prompts;
}

double CheckValue(const PromptResult& result, const std::string& name) {
  for (const Check& check : result.checks) {
    if (check.name == name) return check.value.value();
  }
  ADD_FAILURE() << "no check " << name;
  return 0;
}

// The slow obvious oracle: PyTorch, one token at a time.
std::vector<int32_t> GreedyByReference(const Side& side, const Prompt& prompt,
                                       int64_t max_new_tokens) {
  Reference reference = Reference::Open(side.checkpoint, {2, nullptr});
  Sequence sequence = reference.NewSequence();
  std::vector<int32_t> feed = prompt.ids;
  std::vector<int32_t> generated;
  while (static_cast<int64_t>(generated.size()) < max_new_tokens) {
    const std::vector<Reference::Item> items = {{&sequence, feed, 1}};
    reference.Score(items, [&](size_t, int64_t, std::span<const float> row) {
      generated.push_back(Argmax(row));
    });
    feed = {generated.back()};
    if (std::count(side.eos_ids.begin(), side.eos_ids.end(), generated.back()) >
        0) {
      break;
    }
  }
  return generated;
}

TEST(Verifier, ChecksPrefillLogitsWhereThereAreSome) {
  for (const PromptResult& result :
       RunAll("tiny_prefill_logits.tflite", "tiny")) {
    ASSERT_TRUE(result.prefill_logits.has_value());
    EXPECT_LE(CheckValue(result, "prefill_logits"), 1e-8);
  }
  for (const PromptResult& result : RunAll("tiny_f32.tflite", "tiny")) {
    EXPECT_FALSE(result.prefill_logits.has_value());
  }
}

class Wrong : public ::testing::TestWithParam<const char*> {};

TEST_P(Wrong, Fails) {
  for (const PromptResult& result : RunAll(GetParam(), "tiny")) {
    EXPECT_GE(result.outcome, Outcome::kDegraded);
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Wrong,
                         ::testing::Values("tiny_wrong_rope.tflite",
                                           "tiny_wrong_eps.tflite",
                                           "tiny_wrong_layers.tflite",
                                           "tiny_wrong_weights.tflite"),
                         [](const auto& info) {
                           const std::string name = info.param;
                           return name.substr(0, name.find('.'));
                         });

// The old rule passed this one: the tokens do not show it.
TEST(Verifier, WrongEpsFailsByDivergenceThoughTheTokensAgree) {
  for (const PromptResult& result : RunAll("tiny_wrong_eps.tflite", "tiny")) {
    EXPECT_EQ(CheckValue(result, "tokens"), 10);
    EXPECT_GT(CheckValue(result, "kld"), 1e-6);
    EXPECT_GE(result.outcome, Outcome::kDegraded);
  }
}

// What a sound, lossy file costs over a few positions is no proof that it
// computes something else, and without local verification there is none.
TEST(Verifier, AccusesNoGraphOfWhatQuantisationCosts) {
  Settings settings = TestSettings();
  settings.eval_tokens = 64;
  settings.structure = false;
  Side& side = GetSide("tiny");
  const Model model = Model::Open(ModelPath("tiny_q4_block32.tflite"));
  Verification v;
  v.model = model.info();
  v.limits = LimitsFor(JudgedRecipe(v.model), settings);
  RunVerification(
      {model, side.checkpoint, side.tokenizer, side.eos_ids, settings, nullptr},
      side.prompts, BuiltInEvalText(), v);
  EXPECT_GT(v.all.kld.mean, v.limits.kld.pass);
  EXPECT_EQ(v.outcome, Outcome::kDegraded) << v.reason;
  EXPECT_TRUE(v.findings.empty());
}

Verification VerifyMagnifying(const std::string& tflite) {
  const Settings settings = TestSettings();
  Side& side = GetSide("tiny_cancelling");
  const Model model = Model::Open(ModelPath(tflite));
  return Verify(
      {model, side.checkpoint, side.tokenizer, side.eos_ids, settings, nullptr},
      side.prompts);
}

// PyTorch's own last bits do as much.
TEST(Verifier, ASoundFileOfAModelThatMagnifiesRoundingPasses) {
  const Verification v = VerifyMagnifying("tiny_cancelling.tflite");
  EXPECT_GT(v.all.kld.mean, 1e-3);
  ASSERT_TRUE(v.rounding.has_value());
  EXPECT_EQ(v.rounding->kld.count, v.all.kld.count);
  EXPECT_GT(v.rounding->kld.mean, 1e-3);
  EXPECT_EQ(v.outcome, Outcome::kPass) << v.reason;
  EXPECT_THAT(v.reason, HasSubstr("This model magnifies rounding"));
  ASSERT_FALSE(v.notes.empty());
  EXPECT_THAT(v.notes.back(), HasSubstr("Its logits show no fault that costs "
                                        "less."));
}

// It stays a poor file, and the note says what else there is to know.
TEST(Verifier, RoundingExcusesNoQuantisation) {
  const Verification v = VerifyMagnifying("tiny_cancelling_q8.tflite");
  EXPECT_EQ(v.outcome, Outcome::kBroken) << v.reason;
  EXPECT_THAT(v.reason, HasSubstr("Faithful int8 conversion, but too lossy"));
  ASSERT_FALSE(v.notes.empty());
  EXPECT_THAT(v.notes.back(),
              HasSubstr("What quantisation changes is magnified as much."));
}

// Of other models nothing of it is measured.
TEST(Verifier, AsksAboutRoundingOnlyWhereAFaithfulFileFails) {
  for (const auto& [tflite, checkpoint] : std::map<std::string, std::string>{
           {"tiny_f32.tflite", "tiny"}, {"tiny_wrong_eps.tflite", "tiny"}}) {
    const Settings settings = TestSettings();
    Side& side = GetSide(checkpoint);
    const Model model = Model::Open(ModelPath(tflite));
    const Verification v = Verify({model, side.checkpoint, side.tokenizer,
                                   side.eos_ids, settings, nullptr},
                                  side.prompts);
    EXPECT_FALSE(v.rounding.has_value()) << tflite;
  }
}

TEST(Verifier, TheOtherCheckpointsConversionPassesAgainstItsOwn) {
  for (const PromptResult& result :
       RunAll("tiny_wrong_weights.tflite", "tiny_other")) {
    EXPECT_EQ(result.outcome, Outcome::kPass);
  }
}

// In prefill the graph takes its pad token for one in a prompt, too.
TEST(Verifier, APadInAPromptIsSaid) {
  const Side& side = GetSide("text_lfm2");
  const Model model = Model::Open(ModelPath("ref_lfm2.tflite"));
  const Settings settings = TestSettings();
  const std::vector<Prompt> prompts = {{"no pad", "no pad", {5, 100, 200}},
                                       {"a pad", "a pad", {5, 7, 200}}};
  const Verification v =
      Verify({model, side.checkpoint, side.tokenizer, {}, settings, nullptr},
             prompts);
  EXPECT_EQ(v.prompts[0].outcome, Outcome::kPass);
  EXPECT_NE(v.prompts[1].outcome, Outcome::kPass);
  EXPECT_THAT(v.notes, ::testing::Contains(::testing::HasSubstr(
                           "\"a pad\" has token 7")));
}

// However often the drafts differ, the text is PyTorch's own.
TEST(Verifier, SpeculationYieldsPyTorchsGreedyText) {
  const std::pair<const char*, const char*> cases[] = {
      {"tiny_f32.tflite", "tiny"},
      {"tiny_q8.tflite", "tiny"},
      {"tiny_wrong_rope.tflite", "tiny"},
      {"tiny_wrong_weights.tflite", "tiny"},
      {"ref_lfm2_q8.tflite", "text_lfm2"}};
  for (const auto& [file, checkpoint] : cases) {
    SCOPED_TRACE(file);
    const Side& side = GetSide(checkpoint);
    const auto results = RunAll(file, checkpoint);
    for (size_t i = 0; i < results.size(); ++i) {
      EXPECT_EQ(results[i].reference_ids,
                GreedyByReference(side, side.prompts[i], 20));
      EXPECT_EQ(results[i].positions.size(), results[i].reference_ids.size());
    }
  }
}

// Each position is measured given PyTorch's text, whatever the draft was.
TEST(Verifier, PositionsFollowPyTorchsText) {
  for (const PromptResult& result : RunAll("tiny_wrong_rope.tflite", "tiny")) {
    for (size_t i = 0; i < result.positions.size(); ++i) {
      EXPECT_EQ(result.positions[i].logits.reference_token,
                result.reference_ids[i]);
    }
    const auto first = FirstDifference(result);
    ASSERT_TRUE(first.has_value());
    const Position& position = result.positions[*first];
    EXPECT_NE(position.logits.reference_token, position.logits.candidate_token);
    EXPECT_NE(position.reference_text, position.candidate_text);
  }
}

// The slow obvious oracle for the candidate: fed PyTorch's text token by token,
// without drafts or rewinding, it makes the same choices.
void ExpectTeacherForced(const std::string& file,
                         const std::string& checkpoint) {
  const Model model = Model::Open(ModelPath(file));
  int differing = 0;
  for (const PromptResult& result : RunAll(file, checkpoint)) {
    const std::vector<int32_t>& prompt = result.prompt.ids;
    const std::vector<PrefillPlan> plans = {
        PlanPrefill(std::vector<int64_t>{64, 8}, model.info().kv_length, 0,
                    static_cast<int64_t>(prompt.size()) - 1)};
    Session session = Session::Create(model, plans, {});
    KvCache kv = session.NewKvCache();
    session.Prefill(kv, std::span(prompt).first(prompt.size() - 1));
    int32_t pending = prompt.back();
    for (size_t i = 0; i < result.positions.size(); ++i) {
      const LogitDifference& logits = result.positions[i].logits;
      EXPECT_EQ(Argmax(session.Decode(kv, pending)), logits.candidate_token);
      pending = result.reference_ids[i];
      if (logits.candidate_token != pending) ++differing;
    }
  }
  EXPECT_GT(differing, 0) << "nothing was drafted again";
}

TEST(Verifier, PositionsAreThoseOfTeacherForcedDecoding) {
  ExpectTeacherForced("tiny_q8.tflite", "tiny");
}

// A state is not cut back as KV caches are.
TEST(Verifier, PositionsOfHybridsAreThoseOfTeacherForcedDecoding) {
  ExpectTeacherForced("ref_lfm2_q8.tflite", "text_lfm2");
}

TEST(Verifier, StopsAtEos) {
  Side& side = GetSide("tiny");
  const Model model = Model::Open(ModelPath("tiny_f32.tflite"));
  const Settings settings = TestSettings();
  const auto free = RunAll("tiny_f32.tflite", "tiny");
  // Whatever comes fifth ends the text when it is named EOS.
  const std::vector<int32_t> eos = {free[0].reference_ids[4]};
  const auto results =
      Verify({model, side.checkpoint, side.tokenizer, eos, settings, nullptr},
             std::span(side.prompts).first(1))
          .prompts;
  const auto& ids = results[0].reference_ids;
  EXPECT_LE(ids.size(), 5u);
  EXPECT_EQ(ids.back(), eos[0]);
  EXPECT_EQ(results[0].candidate_ids, ids);
  EXPECT_EQ(results[0].outcome, Outcome::kPass);
}

TEST(Verifier, ManyPromptsInGroupsGiveTheSameResults) {
  Side& side = GetSide("tiny");
  const Model model = Model::Open(ModelPath("tiny_q8.tflite"));
  Settings settings = TestSettings();
  settings.max_new_tokens = 4;
  std::vector<Prompt> prompts;
  // Enough tokens for several groups.
  while (prompts.size() < 150) {
    prompts.insert(prompts.end(), side.prompts.begin(), side.prompts.end());
  }
  const auto results = Verify({model, side.checkpoint, side.tokenizer,
                               side.eos_ids, settings, nullptr},
                              prompts)
                           .prompts;
  ASSERT_EQ(results.size(), prompts.size());
  for (size_t i = 0; i < results.size(); ++i) {
    const PromptResult& first = results[i % side.prompts.size()];
    EXPECT_EQ(results[i].reference_ids, first.reference_ids);
    EXPECT_EQ(results[i].candidate_ids, first.candidate_ids);
  }
}

TEST(Verifier, APromptOfOneToken) {
  Side& side = GetSide("tiny");
  const Model model = Model::Open(ModelPath("tiny_f32.tflite"));
  const Settings settings = TestSettings();
  const std::vector<Prompt> prompts = {{"A", "A", {49}}};
  const auto results = Verify({model, side.checkpoint, side.tokenizer,
                               side.eos_ids, settings, nullptr},
                              prompts)
                           .prompts;
  EXPECT_EQ(results[0].outcome, Outcome::kPass);
}

TEST(CheckPromptsFit, RefusesWhatDoesNotFitBeforeAnyWork) {
  const Model model = Model::Open(ModelPath("tiny_f32.tflite"));
  Settings settings = TestSettings();
  const int64_t room = model.info().kv_length - settings.max_new_tokens + 1;
  std::vector<Prompt> prompts = {
      {"p", "p", std::vector<int32_t>(static_cast<size_t>(room), 5)}};
  EXPECT_NO_THROW(CheckPromptsFit(model, prompts, settings));
  prompts[0].ids.push_back(5);
  EXPECT_THAT([&] { CheckPromptsFit(model, prompts, settings); },
              ThrowsMessage<Error>(
                  AllOf(HasSubstr("KV cache of 257"), HasSubstr("has 256"))));
  prompts[0].ids = {};
  EXPECT_THAT([&] { CheckPromptsFit(model, prompts, settings); },
              ThrowsMessage<Error>(HasSubstr("gives no tokens")));
  prompts[0].ids = {1 << 20};
  EXPECT_THAT([&] { CheckPromptsFit(model, prompts, settings); },
              ThrowsMessage<Error>(HasSubstr("do not belong together")));
}

TEST(CheckSameShape, RefusesAnotherModelsCheckpoint) {
  const Model model = Model::Open(ModelPath("tiny_f32.tflite"));
  const Checkpoint& smollm2 = GetSide("smollm2").checkpoint;
  EXPECT_THAT([&] { CheckSameShape(model, smollm2.config(), "smollm2"); },
              ThrowsMessage<Error>(
                  AllOf(HasSubstr("has 4 layers"), HasSubstr("has 30"))));
  ModelConfig config = GetSide("tiny").checkpoint.config();
  EXPECT_NO_THROW(CheckSameShape(model, config, "tiny"));
  for (LayerConfig& layer : config.layers) layer.head_dim *= 2;
  EXPECT_THAT([&] { CheckSameShape(model, config, "tiny"); },
              ThrowsMessage<Error>(HasSubstr("KV cache values")));
  config = GetSide("tiny").checkpoint.config();
  config.vocab_size += 1;
  EXPECT_THAT([&] { CheckSameShape(model, config, "tiny"); },
              ThrowsMessage<Error>(HasSubstr("vocabulary entries")));
  // Layers of different sizes.
  const Model openelm = Model::Open(ModelPath("ref_openelm.tflite"));
  config = Checkpoint::Open(ModelPath("ref_openelm")).config();
  EXPECT_NO_THROW(CheckSameShape(openelm, config, "ref_openelm"));
  config.layers.back().num_kv_heads += 2;
  EXPECT_THAT([&] { CheckSameShape(openelm, config, "ref_openelm"); },
              ThrowsMessage<Error>(HasSubstr("KV cache values")));
}

}  // namespace
}  // namespace verify_tflite
