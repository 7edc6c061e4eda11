// Planning the evaluation text, and running it on real conversions.
#include "verify/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "result/judge.h"
#include "verify/run.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

struct Side {
  explicit Side(const std::string& name)
      : checkpoint(Checkpoint::Open(ModelPath(name))),
        tokenizer(Tokenizer::Open(ModelPath(name))) {}
  Checkpoint checkpoint;
  Tokenizer tokenizer;
};

Side& Tiny() {
  static Side& side = *new Side("tiny");
  return side;
}

EvalPlan Plan(int64_t tokens, int64_t max_sequence) {
  return PlanEvaluation(BuiltInEvalText(), Tiny().tokenizer, tokens,
                        max_sequence, 49152);
}

int64_t Predicted(const EvalPlan& plan) {
  int64_t count = 0;
  for (const auto& sequence : plan.sequences) {
    count += static_cast<int64_t>(sequence.size()) - 1;
  }
  return count;
}

TEST(PlanEvaluation, TakesAShareOfEveryPart) {
  const EvalPlan plan = Plan(512, 4096);
  ASSERT_EQ(plan.sequences.size(), 1u);
  EXPECT_EQ(plan.sequences[0].size(), 512u);
  ASSERT_EQ(plan.passages.size(), 5u);
  EXPECT_EQ(plan.passages[0].name, "prose");
  EXPECT_EQ(plan.passages[0].begin, 0);
  for (size_t i = 1; i < plan.passages.size(); ++i) {
    EXPECT_EQ(plan.passages[i].begin, plan.passages[i - 1].end);
    EXPECT_GT(plan.passages[i].end - plan.passages[i].begin, 50);
  }
  EXPECT_EQ(plan.passages.back().end, Predicted(plan));
}

TEST(PlanEvaluation, SplitsWhereTheKvCacheEnds) {
  const EvalPlan plan = Plan(512, 200);
  ASSERT_EQ(plan.sequences.size(), 3u);
  EXPECT_EQ(plan.sequences[0].size(), 200u);
  EXPECT_EQ(plan.sequences[2].size(), 112u);
  EXPECT_EQ(plan.passages.back().end, Predicted(plan));
}

TEST(PlanEvaluation, TakesAllOfAShortText) {
  const EvalText text = {"file", {{"text", "A few words."}}};
  const EvalPlan plan =
      PlanEvaluation(text, Tiny().tokenizer, 512, 4096, 49152);
  ASSERT_EQ(plan.sequences.size(), 1u);
  EXPECT_EQ(plan.sequences[0], Tiny().tokenizer.Encode("A few words.", true));
}

TEST(PlanEvaluation, NothingToPredict) {
  EXPECT_TRUE(Plan(0, 4096).sequences.empty());
  EXPECT_TRUE(Plan(1, 4096).sequences.empty());
  EXPECT_TRUE(Plan(512, 1).sequences.empty());
  EXPECT_TRUE(
      PlanEvaluation({}, Tiny().tokenizer, 512, 4096, 49152).sequences.empty());
}

TEST(PlanEvaluation,
     StartsEverySequenceAsTheTokenizerStartsATextAndPredictsIt) {
  const Tokenizer llama2 = Tokenizer::Open(ModelPath("llama2_tokenizer"));
  const EvalPlan plan =
      PlanEvaluation(BuiltInEvalText(), llama2, 100, 60, 32000);
  ASSERT_EQ(plan.sequences.size(), 2u);
  for (const auto& sequence : plan.sequences) EXPECT_EQ(sequence[0], 1);
  EXPECT_EQ(Predicted(plan), 100);
  EXPECT_EQ(plan.passages.back().end, 100);
}

TEST(PlanEvaluation, RefusesIdsOutsideTheVocabulary) {
  EXPECT_THAT(
      [] {
        PlanEvaluation(BuiltInEvalText(), Tiny().tokenizer, 512, 4096, 100);
      },
      ThrowsMessage<Error>(HasSubstr("do not belong together")));
}

TEST(BuiltInEvalText, IsLongEnough) {
  size_t bytes = 0;
  for (const EvalText::Part& part : BuiltInEvalText().parts) {
    bytes += part.text.size();
    EXPECT_TRUE(part.text.ends_with("\n\n")) << part.name;
  }
  EXPECT_GT(bytes, 6000u);
}

TEST(ReadEvalText, RefusesWhatIsNoText) {
  const TempDir directory;
  const std::string path = directory.path() + "/text";
  WriteFile(path, "Grüße\xFF");
  EXPECT_THAT([&] { ReadEvalText(path); },
              ThrowsMessage<Error>(HasSubstr("UTF-8")));
  WriteFile(path, "");
  EXPECT_THROW(ReadEvalText(path), Error);
  WriteFile(path, "Grüße");
  EXPECT_EQ(ReadEvalText(path).parts[0].text, "Grüße");
}

Verification Evaluate(const std::string& file, int64_t tokens,
                      const std::string& checkpoint = "tiny") {
  const Side side(checkpoint);
  const Model model = Model::Open(ModelPath(file));
  Settings settings;
  settings.eval_tokens = tokens;
  settings.structure = false;
  settings.self_check = false;
  Verification v;
  v.model = model.info();
  v.limits = LimitsFor(JudgedRecipe(v.model), settings);
  RunVerification(
      {model, side.checkpoint, side.tokenizer, {}, settings, nullptr}, {},
      BuiltInEvalText(), v);
  return v;
}

TEST(RunEvaluation, ASoundFileAgreesEverywhere) {
  const Verification v = Evaluate("tiny_f32.tflite", 300);
  EXPECT_EQ(v.outcome, Outcome::kPass) << v.reason;
  EXPECT_FALSE(v.evaluation.through_prefill);
  EXPECT_LE(v.all.kld.max, 1e-8);
  // 256 positions of KV cache: two sequences, each with one token that is fed
  // and not predicted.
  EXPECT_EQ(v.evaluation.ids.size(), 300u);
  EXPECT_EQ(v.evaluation.positions.size(), 298u);
  // Every position is measured against the token that follows in the text.
  for (size_t i = 0; i < 255; ++i) {
    EXPECT_EQ(v.evaluation.positions[i].index, static_cast<int64_t>(i) + 1);
    EXPECT_EQ(v.evaluation.positions[i].logits.text_token,
              v.evaluation.ids[i + 1]);
  }
  EXPECT_EQ(v.evaluation.positions[255].index, 1);
  EXPECT_EQ(v.evaluation.positions[255].logits.text_token,
            v.evaluation.ids[257]);
}

TEST(RunEvaluation, PrefillLogitsAreMeasuredWhereThereAreSome) {
  const Verification prefill = Evaluate("tiny_prefill_logits.tflite", 100);
  const Verification decode = Evaluate("tiny_f32.tflite", 100);
  EXPECT_TRUE(prefill.evaluation.through_prefill);
  EXPECT_EQ(prefill.timing.decode_tokens, 0);
  EXPECT_EQ(prefill.outcome, Outcome::kPass) << prefill.reason;
  ASSERT_EQ(prefill.evaluation.positions.size(),
            decode.evaluation.positions.size());
  for (size_t i = 0; i < decode.evaluation.positions.size(); ++i) {
    EXPECT_NEAR(prefill.evaluation.positions[i].logits.candidate_logprob,
                decode.evaluation.positions[i].logits.candidate_logprob, 1e-4);
  }
}

// An int8 weight-only file has the weights of the dynamic one and float
// activations: what the runtime makes of it is what PyTorch makes of the
// dynamic file's weights.
TEST(RunEvaluation, CostOfWeightsIsThatOfAWeightOnlyFile) {
  const Verification dynamic = Evaluate("smollm2_q8.tflite", 64, "smollm2");
  const Verification weights = Evaluate("smollm2_q8_wo.tflite", 64, "smollm2");
  ASSERT_TRUE(dynamic.weights_cost && weights.weights_cost);
  const double cost = dynamic.weights_cost->figures.kld.mean;
  const double total = dynamic.evaluation.figures.kld.mean;
  EXPECT_EQ(dynamic.weights_cost->figures.kld.count,
            dynamic.evaluation.figures.kld.count);
  EXPECT_NEAR(cost, weights.evaluation.figures.kld.mean, 1e-3 * cost);
  EXPECT_GT(total, 2 * cost);
  // With activations as they are, nothing is left of the weight-only file's.
  EXPECT_LT(weights.weights_cost->rest.kld.mean, 1e-9);
  EXPECT_GT(dynamic.weights_cost->rest.kld.mean, cost);
}

TEST(RunEvaluation, FloatFilesCostNothingToSplit) {
  EXPECT_FALSE(Evaluate("tiny_f32.tflite", 20).weights_cost);
}

TEST(RunEvaluation, AWrongFileDoesNot) {
  EXPECT_EQ(Evaluate("tiny_wrong_rope.tflite", 300).outcome, Outcome::kBroken);
  const Verification eps = Evaluate("tiny_wrong_eps.tflite", 300);
  EXPECT_EQ(eps.outcome, Outcome::kBroken);
  ASSERT_EQ(eps.findings.size(), 1u);
  EXPECT_EQ(eps.findings[0].id, FindingId::kNormEps);
  EXPECT_EQ(eps.all.flips, 0);
}

}  // namespace
}  // namespace verify_tflite
