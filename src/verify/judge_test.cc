#include "verify/judge.h"

#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>

namespace verify_tflite {
namespace {

Position Agreeing(double kld = 0) {
  Position p;
  p.logits.kld = kld;
  p.logits.reference_token = p.logits.candidate_token = 7;
  return p;
}

// A differing position; PyTorch's margin in units of the noise (RMS) there.
Position Differing(double margin_in_noise) {
  Position p;
  p.logits.reference_token = 7;
  p.logits.candidate_token = 8;
  p.logits.rms = 0.25;
  p.logits.margin = margin_in_noise * p.logits.rms;
  p.tie = IsTie(p.logits);
  return p;
}

Outcome OutcomeOf(const PromptResult& result, const std::string& name) {
  for (const Check& check : result.checks) {
    if (check.name == name) return check.outcome;
  }
  ADD_FAILURE() << "no check " << name;
  return Outcome::kNotChecked;
}

const Limits kFloat = LimitsFor(Recipe::kFloat32, {});
const Limits kInt8 = LimitsFor(Recipe::kInt8, {});

TEST(LimitsFor, FollowsTheRecipe) {
  EXPECT_EQ(LimitsFor(Recipe::kFloat32, {}).max_kld, 1e-6);
  EXPECT_EQ(LimitsFor(Recipe::kFloat16, {}).max_kld, 1e-4);
  EXPECT_EQ(LimitsFor(Recipe::kInt8, {}).max_kld, 0.1);
  EXPECT_EQ(LimitsFor(Recipe::kInt4, {}).max_kld, 0.3);
  EXPECT_EQ(LimitsFor(Recipe::kFloat32, {}).tolerance, 0.01);
  EXPECT_EQ(LimitsFor(Recipe::kFloat16, {}).tolerance, std::nullopt);
}

TEST(LimitsFor, SettingsOverride) {
  Settings settings;
  settings.max_kld = 1;
  settings.tolerance = 5;
  settings.match_tokens = 3;
  EXPECT_EQ(LimitsFor(Recipe::kInt4, settings).max_kld, 1);
  EXPECT_EQ(LimitsFor(Recipe::kFloat32, settings).tolerance, 5);
  EXPECT_EQ(LimitsFor(Recipe::kInt4, settings).match_tokens, 3);
}

TEST(IsTie, UpToFourTimesTheNoise) {
  EXPECT_TRUE(IsTie(Differing(4).logits));
  EXPECT_FALSE(IsTie(Differing(4.01).logits));
  EXPECT_FALSE(IsTie(Agreeing().logits));
  Position bad = Differing(1);
  bad.logits.finite = false;
  EXPECT_FALSE(IsTie(bad.logits));
}

TEST(Judge, PassesEqualOutputs) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  Judge(kFloat, result);
  EXPECT_TRUE(result.passed);
  EXPECT_EQ(OutcomeOf(result, "tokens"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "kld"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "logits"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kNotChecked);
}

TEST(Judge, NothingMeasuredIsNotPassed) {
  PromptResult result;
  Judge(kInt8, result);
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(OutcomeOf(result, "tokens"), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(result, "kld"), Outcome::kFail);
}

TEST(Judge, TiesDoNotCountAgainstThePrompt) {
  PromptResult result;
  result.positions = {Agreeing(), Differing(3.9), Agreeing()};
  Judge(kInt8, result);
  EXPECT_TRUE(result.passed);
  EXPECT_EQ(result.checks[0].value, 3);
  EXPECT_EQ(result.checks[0].limit, 3);
}

TEST(Judge, ADifferenceAmongTheFirstTokensFails) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  result.positions[9] = Differing(5);
  Judge(kInt8, result);
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(result.checks[0].value, 9);
  EXPECT_EQ(result.checks[0].limit, 10);
}

TEST(Judge, ADifferenceAfterTheFirstTokensDoesNot) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  result.positions[10] = Differing(5);
  Judge(kInt8, result);
  EXPECT_TRUE(result.passed);
}

// A wrong rms_norm_eps leaves every token alone and moves the distribution by
// 8e-6 nats: the rule of the first tokens alone would acquit it.
TEST(Judge, DivergenceFailsThoughEveryTokenAgrees) {
  PromptResult result;
  result.positions.assign(30, Agreeing(8e-6));
  Judge(kFloat, result);
  EXPECT_EQ(OutcomeOf(result, "tokens"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "kld"), Outcome::kFail);
  EXPECT_FALSE(result.passed);
}

TEST(Judge, TheMeanDivergenceDecides) {
  PromptResult result;
  result.positions = {Agreeing(0.15), Agreeing(0.05)};
  Judge(kInt8, result);
  EXPECT_TRUE(result.passed);
  result.positions = {Agreeing(0.15), Agreeing(0.06)};
  Judge(kInt8, result);
  EXPECT_FALSE(result.passed);
}

TEST(Judge, ToleranceIsForFloat32Only) {
  PromptResult result;
  result.positions = {Agreeing()};
  result.positions[0].logits.max_abs = 0.02;
  Judge(kFloat, result);
  EXPECT_EQ(OutcomeOf(result, "logits"), Outcome::kFail);
  EXPECT_FALSE(result.passed);
  Judge(kInt8, result);
  EXPECT_EQ(OutcomeOf(result, "logits"), Outcome::kNotChecked);
  EXPECT_TRUE(result.passed);
}

TEST(Judge, PrefillLogitsMustAgreeWithDecode) {
  PromptResult result;
  result.positions = {Agreeing()};
  result.prefill_logits = LogitDifference{};
  Judge(kFloat, result);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kPass);
  result.prefill_logits->max_abs = 0.02;
  Judge(kFloat, result);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kFail);
  result.prefill_logits = LogitDifference{};
  result.prefill_logits->kld = 0.2;
  Judge(kInt8, result);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kFail);
  result.prefill_logits = LogitDifference{};
  result.prefill_logits->finite = false;
  Judge(kInt8, result);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kFail);
}

TEST(Judge, NonFiniteLogitsFail) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  result.positions[29].logits.finite = false;
  Judge(kInt8, result);
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(OutcomeOf(result, "finite_logits"), Outcome::kFail);
}

TEST(Judge, NaNDivergenceFails) {
  PromptResult result;
  result.positions = {Agreeing(std::numeric_limits<double>::quiet_NaN())};
  Judge(kInt8, result);
  EXPECT_FALSE(result.passed);
}

}  // namespace
}  // namespace verify_tflite
