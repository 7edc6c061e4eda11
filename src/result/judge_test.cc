#include "result/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "result/testing_structure.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;

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
  EXPECT_EQ(LimitsFor(Recipe::kFloat32, {}).kld.pass, 1e-7);
  EXPECT_EQ(LimitsFor(Recipe::kFloat16, {}).kld.pass, 1e-4);
  EXPECT_EQ(LimitsFor(Recipe::kInt8WeightOnly, {}).kld.pass, 0.025);
  EXPECT_EQ(LimitsFor(Recipe::kInt8WeightOnly, {}).kld_p99.pass, 0.12);
  EXPECT_EQ(LimitsFor(Recipe::kInt8, {}).kld.pass, 0.1);
  EXPECT_EQ(LimitsFor(Recipe::kInt4, {}).kld.pass, 0.3);
  EXPECT_EQ(LimitsFor(Recipe::kInt4, {}).kld.broken, 2);
  EXPECT_EQ(LimitsFor(Recipe::kInt4PerChannel, {}).kld.broken, 1);
  EXPECT_EQ(LimitsFor(Recipe::kInt8WeightOnly, {}).differing, 0.2);
  EXPECT_EQ(LimitsFor(Recipe::kInt8, {}).differing, 0.35);
  EXPECT_EQ(LimitsFor(Recipe::kInt4, {}).differing, std::nullopt);
  EXPECT_EQ(LimitsFor(Recipe::kFloat32, {}).tolerance, 0.01);
  EXPECT_EQ(LimitsFor(Recipe::kFloat16, {}).tolerance, std::nullopt);
}

TEST(LimitsFor, SettingsOverride) {
  Settings settings;
  settings.max_kld = 2;
  settings.max_flips = 0.2;
  settings.tolerance = 5;
  settings.match_tokens = 3;
  EXPECT_EQ(LimitsFor(Recipe::kInt4, settings).kld.pass, 2);
  // What the user allows is not broken.
  EXPECT_EQ(LimitsFor(Recipe::kInt4, settings).kld.broken, 2);
  EXPECT_EQ(LimitsFor(Recipe::kInt4, settings).kld_p99.pass, 20);
  EXPECT_EQ(LimitsFor(Recipe::kInt4, settings).flips.pass, 0.2);
  EXPECT_EQ(LimitsFor(Recipe::kFloat32, settings).tolerance, 5);
  EXPECT_EQ(LimitsFor(Recipe::kInt4, settings).match_tokens, 3);
}

// Whoever allows more by hand has allowed what follows from it.
TEST(LimitsFor, DifferingChoicesFollowWhatTheUserAllows) {
  Settings settings;
  settings.max_flips = 0.5;
  EXPECT_EQ(LimitsFor(Recipe::kInt8, settings).differing, 0.5);
  settings.max_flips = 0.001;
  EXPECT_EQ(LimitsFor(Recipe::kInt8, settings).differing, 0.35);
  settings.max_kld = 0.05;
  EXPECT_EQ(LimitsFor(Recipe::kInt8, settings).differing, 0.35);
  settings.max_kld = 0.5;
  EXPECT_EQ(LimitsFor(Recipe::kInt8, settings).differing, std::nullopt);
}

TEST(JudgedRecipe, CoarserCachesDecide) {
  ModelInfo info;
  info.recipe = Recipe::kInt8WeightOnly;
  info.kv_type = "FLOAT32";
  EXPECT_EQ(JudgedRecipe(info), Recipe::kInt8WeightOnly);
  info.kv_type = "INT8";
  EXPECT_EQ(JudgedRecipe(info), Recipe::kInt8);
  info.recipe = Recipe::kInt4PerChannel;
  EXPECT_EQ(JudgedRecipe(info), Recipe::kInt4PerChannel);
}

TEST(IsTie, UpToFourTimesTheNoise) {
  EXPECT_TRUE(IsTie(Differing(4).logits));
  EXPECT_FALSE(IsTie(Differing(4.01).logits));
  EXPECT_FALSE(IsTie(Agreeing().logits));
  Position bad = Differing(1);
  bad.logits.finite = false;
  EXPECT_FALSE(IsTie(bad.logits));
}

TEST(JudgePrompt, PassesEqualOutputs) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  JudgePrompt(kFloat, result);
  EXPECT_EQ(result.outcome, Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "tokens"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "kld"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "logits"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kNotChecked);
}

TEST(JudgePrompt, NothingMeasuredIsNotPassed) {
  PromptResult result;
  JudgePrompt(kInt8, result);
  EXPECT_NE(result.outcome, Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "tokens"), Outcome::kDegraded);
  EXPECT_EQ(OutcomeOf(result, "kld"), Outcome::kInconclusive);
}

TEST(JudgePrompt, TiesDoNotCountAgainstThePrompt) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  result.positions[1] = Differing(3.9);
  JudgePrompt(kInt8, result);
  EXPECT_EQ(result.outcome, Outcome::kPass);
  EXPECT_EQ(result.checks[0].value, 10);
  EXPECT_EQ(result.checks[0].limit, 10);
}

TEST(JudgePrompt, TiesGetNoCreditWhereTheNoiseIsABrokenModels) {
  PromptResult result;
  result.positions.assign(30, Agreeing(0.05));
  result.positions[1] = Differing(3.9);
  JudgePrompt(kInt8, result);
  EXPECT_THAT(result.checks[0].detail, HasSubstr("1 of them ties"));
  for (Position& p : result.positions) p.logits.kld = 0.2;
  JudgePrompt(kInt8, result);
  EXPECT_EQ(result.checks[0].detail,
            "10 of the first 10 tokens match, 1 of them only within this "
            "model's own noise");
}

TEST(JudgePrompt, ADifferenceAmongTheFirstTokensFails) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  result.positions[9] = Differing(5);
  JudgePrompt(kInt8, result);
  EXPECT_GE(result.outcome, Outcome::kDegraded);
  EXPECT_EQ(result.checks[0].value, 9);
  EXPECT_EQ(result.checks[0].limit, 10);
}

TEST(JudgePrompt, ADifferenceAfterTheFirstTokensDoesNot) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  result.positions[10] = Differing(5);
  JudgePrompt(kInt8, result);
  EXPECT_EQ(result.outcome, Outcome::kPass);
}

// A wrong rms_norm_eps leaves every token alone and moves the distribution by
// 8e-6 nats: the rule of the first tokens alone would acquit it.
TEST(JudgePrompt, DivergenceFailsThoughEveryTokenAgrees) {
  PromptResult result;
  result.positions.assign(30, Agreeing(8e-6));
  JudgePrompt(kFloat, result);
  EXPECT_EQ(OutcomeOf(result, "tokens"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(result, "kld"), Outcome::kDegraded);
  EXPECT_GE(result.outcome, Outcome::kDegraded);
}

TEST(JudgePrompt, PassesByItsMeanAndFailsByItsInterval) {
  PromptResult result;
  const auto outcome_of_blocks = [&](double first, double second) {
    result.positions.assign(2 * kBlock, Agreeing(first));
    std::fill_n(result.positions.begin(), kBlock, Agreeing(second));
    JudgePrompt(kInt8, result);
    return OutcomeOf(result, "kld");
  };
  EXPECT_EQ(outcome_of_blocks(0.05, 0.05), Outcome::kPass);
  // The interval holds the limit, the mean is within.
  EXPECT_EQ(outcome_of_blocks(0.05, 0.06), Outcome::kPass);
  EXPECT_EQ(outcome_of_blocks(0.09, 0.12), Outcome::kInconclusive);
  EXPECT_EQ(outcome_of_blocks(0.2, 0.2), Outcome::kDegraded);
  EXPECT_EQ(outcome_of_blocks(1.1, 1.1), Outcome::kBroken);
}

// A float32 file of which every weight and operator is verified.
Verification Proven() {
  Verification v;
  v.limits = kFloat;
  v.checks[CheckGroup::kWeights] = {{"weights", Outcome::kPass, 1, 1, ""}};
  v.structure = Structure{.signatures = {SignatureFor("decode", 400)},
                          .faults = {},
                          .same_bits = true,
                          .not_run = ""};
  v.prompts.resize(1);
  v.prompts[0].positions.assign(8, Agreeing(1e-11));
  return v;
}

// Eight positions have no interval, and so decide nothing by themselves.
TEST(Judge, FewPositionsSufficeWhereBothProofsPass) {
  Verification v = Proven();
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kPass);
  v.prompts[0].positions[3].logits.kld = 2e-7;
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kInconclusive);
  v = Proven();
  v.structure->signatures[0].verified_ops = 399;
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kInconclusive);
  v = Proven();
  v.model.recipe = Recipe::kInt8;  // what it costs is not proven
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kInconclusive);
}

// Of a checkpoint with logits in the hundreds.
TEST(Judge, RoundingOfLargeLogitsIsNoFaultWhereBothProofsPass) {
  Verification v = Proven();
  for (Position& p : v.prompts[0].positions) p.logits.max_abs = 0.0121;
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kPass);
  EXPECT_EQ(v.prompts[0].outcome, Outcome::kPass);
  v.settings.tolerance_given = true;
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kDegraded);
  v.settings.tolerance_given = false;
  v.checks[CheckGroup::kWeights][0].outcome = Outcome::kNotChecked;
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kDegraded);
  v = Proven();
  for (Position& p : v.prompts[0].positions) {
    p.logits.max_abs = 0.0121;
    p.logits.kld = 2e-7;
  }
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kDegraded);
}

// A figure over no position at all reads as if something had been compared.
TEST(Judge, GivesNoFigureWhereNoLogitIsFinite) {
  Verification v = Proven();
  for (Position& p : v.prompts[0].positions) p.logits.finite = false;
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kBroken);
  for (const Check& check : v.checks[CheckGroup::kDivergence]) {
    if (check.name == "finite_logits") continue;
    EXPECT_EQ(check.outcome, Outcome::kNotChecked) << check.name;
    EXPECT_FALSE(check.value) << check.name;
  }
  EXPECT_THAT(v.reason, HasSubstr("none of 8 positions has finite logits"));
  EXPECT_THAT(v.reason, Not(HasSubstr("greedy choice")));
}

TEST(JudgePrompt, ToleranceIsForFloat32Only) {
  PromptResult result;
  result.positions.assign(16, Agreeing());
  result.positions[0].logits.max_abs = 0.02;
  JudgePrompt(kFloat, result);
  EXPECT_EQ(OutcomeOf(result, "logits"), Outcome::kDegraded);
  EXPECT_GE(result.outcome, Outcome::kDegraded);
  JudgePrompt(kInt8, result);
  EXPECT_EQ(OutcomeOf(result, "logits"), Outcome::kNotChecked);
  EXPECT_EQ(result.outcome, Outcome::kPass);
}

TEST(JudgePrompt, PrefillLogitsMustAgreeWithDecode) {
  PromptResult result;
  result.positions.assign(16, Agreeing());
  result.prefill_logits = LogitDifference{};
  JudgePrompt(kFloat, result);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kPass);
  result.prefill_logits->max_abs = 0.02;
  JudgePrompt(kFloat, result);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kDegraded);
  result.prefill_logits = LogitDifference{};
  result.prefill_logits->kld = 0.2;
  JudgePrompt(kInt8, result);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kDegraded);
  result.prefill_logits = LogitDifference{};
  result.prefill_logits->finite = false;
  JudgePrompt(kInt8, result);
  EXPECT_EQ(OutcomeOf(result, "prefill_logits"), Outcome::kBroken);
}

TEST(JudgePrompt, NonFiniteLogitsFail) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  result.positions[29].logits.finite = false;
  JudgePrompt(kInt8, result);
  EXPECT_GE(result.outcome, Outcome::kDegraded);
  EXPECT_EQ(OutcomeOf(result, "finite_logits"), Outcome::kBroken);
}

TEST(JudgePrompt, NaNDivergenceFails) {
  PromptResult result;
  result.positions.assign(30, Agreeing());
  result.positions[3] = Agreeing(std::numeric_limits<double>::quiet_NaN());
  JudgePrompt(kInt8, result);
  EXPECT_GE(result.outcome, Outcome::kDegraded);
}

TEST(HoldAgainst, TheWholeIntervalDecides) {
  const Limit limit = {1, 10};
  EXPECT_EQ(HoldAgainst({0, 1}, limit), Outcome::kPass);
  EXPECT_EQ(HoldAgainst({0.9, 1.1}, limit), Outcome::kInconclusive);
  EXPECT_EQ(HoldAgainst({0, INFINITY}, limit), Outcome::kInconclusive);
  EXPECT_EQ(HoldAgainst({1.1, 2}, limit), Outcome::kDegraded);
  EXPECT_EQ(HoldAgainst({1.1, 20}, limit), Outcome::kDegraded);
  EXPECT_EQ(HoldAgainst({10.1, 20}, limit), Outcome::kBroken);
  EXPECT_EQ(HoldAgainst({NAN, NAN}, limit), Outcome::kBroken);
}

// A run of `count` positions of the evaluation text, `flips` of them differing
// beyond ties, `ties` within.
Verification Evaluated(Recipe recipe, size_t count, size_t flips = 0,
                       size_t ties = 0) {
  Verification v;
  v.model.recipe = recipe;
  v.limits = LimitsFor(recipe, {});
  v.evaluation.positions.assign(count, Agreeing(1e-12));
  for (size_t i = 0; i < flips + ties; ++i) {
    Position& p = v.evaluation.positions[i * (count / (flips + ties))];
    p = Differing(i < flips ? 5 : 3);
    p.logits.kld = 1e-12;
  }
  for (size_t i = 0; i < count; ++i) {
    v.evaluation.positions[i].index = static_cast<int64_t>(i) + 1;
  }
  return v;
}

Outcome OutcomeOf(const Verification& v, const std::string& name) {
  for (const Check& check : v.checks[CheckGroup::kDivergence]) {
    if (check.name == name) return check.outcome;
  }
  return Outcome::kNotChecked;
}

TEST(Judge, PassesEqualOutputs) {
  Verification v = Evaluated(Recipe::kFloat32, 512);
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kPass);
  EXPECT_EQ(v.all.positions, 512);
  for (const Check& check : v.checks[CheckGroup::kDivergence]) {
    EXPECT_EQ(check.outcome, Outcome::kPass) << check.name;
  }
  EXPECT_THAT(v.reason, HasSubstr("every greedy choice agrees"));
}

TEST(Judge, NothingMeasuredIsInconclusive) {
  Verification v;
  v.limits = LimitsFor(Recipe::kFloat32, {});
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kInconclusive);
}

TEST(Judge, FewPositionsAreTooLittleEvidence) {
  Verification v = Evaluated(Recipe::kFloat32, 15);
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kInconclusive);
  EXPECT_THAT(v.reason, HasSubstr("--eval_tokens"));
}

TEST(Judge, WhatFewPositionsCannotShowIsNotChecked) {
  Verification v = Evaluated(Recipe::kInt8, 60);
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kPass);
  EXPECT_EQ(OutcomeOf(v, "kld_p99"), Outcome::kNotChecked);
  EXPECT_EQ(OutcomeOf(v, "flips"), Outcome::kNotChecked);
  EXPECT_EQ(OutcomeOf(v, "differing"), Outcome::kNotChecked);
}

TEST(Judge, FlipsCountAndTiesDoNot) {
  Verification v = Evaluated(Recipe::kInt8, 512, 0, 60);
  Judge(v);
  EXPECT_EQ(v.all.ties, 60);
  EXPECT_EQ(v.outcome, Outcome::kPass);
  v = Evaluated(Recipe::kInt8, 512, 8, 0);
  Judge(v);
  EXPECT_EQ(v.all.flips, 8);
  EXPECT_EQ(OutcomeOf(v, "flips"), Outcome::kInconclusive);
  v = Evaluated(Recipe::kInt8, 512, 64, 0);
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kDegraded);
  v = Evaluated(Recipe::kInt8, 512, 256, 0);
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kBroken);
}

// The shares that sound files show pass, random weights included
// (docs/recipes.md); nothing is broken by it.
TEST(Judge, TooManyTiesDegrade) {
  const auto outcome = [](Recipe recipe, size_t count, size_t ties) {
    Verification v = Evaluated(recipe, count, 0, ties);
    Judge(v);
    EXPECT_EQ(v.outcome, std::max(OutcomeOf(v, "differing"), Outcome::kPass));
    return OutcomeOf(v, "differing");
  };
  EXPECT_EQ(outcome(Recipe::kFloat32, 570, 0), Outcome::kPass);
  EXPECT_EQ(outcome(Recipe::kFloat16, 570, 4), Outcome::kPass);
  EXPECT_EQ(outcome(Recipe::kInt8WeightOnly, 570, 31), Outcome::kPass);
  EXPECT_EQ(outcome(Recipe::kInt8WeightOnly, 570, 66), Outcome::kPass);
  EXPECT_EQ(outcome(Recipe::kInt8WeightOnly, 570, 150), Outcome::kDegraded);
  EXPECT_EQ(outcome(Recipe::kInt8, 570, 84), Outcome::kPass);
  EXPECT_EQ(outcome(Recipe::kInt8, 572, 133), Outcome::kPass);
  EXPECT_EQ(outcome(Recipe::kInt8, 570, 200), Outcome::kInconclusive);
  EXPECT_EQ(outcome(Recipe::kInt8, 570, 250), Outcome::kDegraded);
  EXPECT_EQ(outcome(Recipe::kInt8, 570, 560), Outcome::kDegraded);
  EXPECT_EQ(outcome(Recipe::kInt4, 570, 270), Outcome::kNotChecked);
  // Of sixty positions no share can be told well enough.
  EXPECT_EQ(outcome(Recipe::kInt8, 60, 20), Outcome::kNotChecked);
}

// Most positions are right and a few are lost: a fault behind a window or in
// one script. The mean hides it.
TEST(Judge, TheTailDecidesToo) {
  Verification v = Evaluated(Recipe::kInt8, 512);
  for (size_t i = 0; i < 20; ++i) {
    v.evaluation.positions[25 * i].logits.kld = 1.5;
  }
  Judge(v);
  EXPECT_EQ(OutcomeOf(v, "kld"), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(v, "kld_p99"), Outcome::kDegraded);
  EXPECT_EQ(v.outcome, Outcome::kDegraded);
}

TEST(Judge, AFindingDecides) {
  Verification v = Evaluated(Recipe::kInt8, 512);
  v.findings = {{.id = FindingId::kStopTokenDiffers,
                 .sentence = "Texts end elsewhere.",
                 .evidence = ""}};
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kBroken);
  EXPECT_THAT(v.reason, HasSubstr("Texts end elsewhere."));
}

TEST(Judge, AFaultOfTheStructureDecides) {
  Verification v = Evaluated(Recipe::kInt8, 512);
  v.structure.emplace().faults = {
      {.signature = "decode", .stage = "input_norm", .op = "", .tensor = ""}};
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kDegraded);
  ASSERT_EQ(v.checks[CheckGroup::kStructure].size(), 1u);
  for (Position& p : v.evaluation.positions) p.logits.kld = 3;
  Judge(v);  // again, as recheck does
  EXPECT_EQ(v.outcome, Outcome::kBroken);
  ASSERT_EQ(v.checks[CheckGroup::kStructure].size(), 1u);
  EXPECT_EQ(v.checks[CheckGroup::kStructure][0].outcome, Outcome::kBroken);
}

TEST(Judge, AStructureThatWasNotCheckedFailsNothingAndPassesNothing) {
  Verification v = Evaluated(Recipe::kInt8, 512);
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kPass);
  ASSERT_EQ(v.checks[CheckGroup::kStructure].size(), 1u);
  EXPECT_EQ(v.checks[CheckGroup::kStructure][0].outcome, Outcome::kNotChecked);
}

TEST(Judge, ASelfCheckDecides) {
  Verification v = Evaluated(Recipe::kInt8, 512);
  v.checks[CheckGroup::kSelf] = {
      {.name = "repeat", .outcome = Outcome::kBroken}};
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kBroken);
  EXPECT_THAT(v.reason, HasSubstr("repeat"));
}

TEST(Judge, NonFiniteAndConstantLogitsAreFindings) {
  Verification v = Evaluated(Recipe::kInt8, 512);
  v.evaluation.positions[5].logits.finite = false;
  v.evaluation.positions[6].logits.constant = true;
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kBroken);
  ASSERT_EQ(v.findings.size(), 2u);
  EXPECT_EQ(v.findings[0].id, FindingId::kNan);
  EXPECT_EQ(v.findings[1].id, FindingId::kConstantLogits);
  Judge(v);  // again, as recheck does
  EXPECT_EQ(v.findings.size(), 2u);
}

TEST(Judge, APromptsLackOfEvidenceIsNotTheRuns) {
  Verification v = Evaluated(Recipe::kFloat32, 512);
  PromptResult prompt;
  prompt.positions.assign(3, Agreeing());
  v.prompts = {prompt};
  Judge(v);
  EXPECT_EQ(v.prompts[0].outcome, Outcome::kPass);
  EXPECT_EQ(v.outcome, Outcome::kPass);
  // Twice the limit, but from three tokens.
  for (Position& p : v.prompts[0].positions) p.logits.kld = 2e-7;
  Judge(v);
  EXPECT_EQ(v.prompts[0].outcome, Outcome::kInconclusive);
  EXPECT_EQ(v.outcome, Outcome::kPass);
}

TEST(Judge, BucketsCoverEveryPositionOnce) {
  Verification v = Evaluated(Recipe::kFloat32, 512);
  Judge(v);
  int64_t sum = 0;
  for (const Bucket& bucket : v.buckets) sum += bucket.figures.positions;
  EXPECT_EQ(sum, 512);
  EXPECT_EQ(v.buckets.front().begin, 0);
  EXPECT_EQ(v.buckets.front().end, 32);
  EXPECT_EQ(v.buckets.back().end, 1024);
  EXPECT_EQ(v.buckets.back().figures.positions, 1);
}

// A float32 file, proven but for what Judge itself fills, of such divergence at
// each of 500 positions; and what rounding alone makes of its model.
Verification Magnifying(double kld, double rounding) {
  Verification v;
  v.model.recipe = Recipe::kFloat32;
  v.model.kv_type = std::string("FLOAT32");
  v.evaluation.positions.assign(500, Agreeing(kld));
  v.checks[CheckGroup::kWeights] = {{"weights", Outcome::kPass, 1, 1, ""}};
  v.structure.emplace();
  v.structure->same_bits = true;
  v.structure->signatures = {SignatureFor("decode", 400)};
  v.limits = LimitsOf(v);
  JudgeFigures(v);
  Position moved = Agreeing(rounding);
  moved.logits.max_abs = 3;
  v.rounding = Summarize(std::vector<const Position*>(500, &moved));
  return v;
}

TEST(LimitsOf, RoundingThatTheModelMagnifiesIsNoFault) {
  Verification v = Magnifying(0.05, 0.02);
  EXPECT_EQ(OutcomeOf(v), Outcome::kBroken);
  v.limits = LimitsOf(v);
  EXPECT_NEAR(v.limits.kld.pass, 0.16, 1e-9);
  EXPECT_NEAR(v.limits.kld.broken, 0.16, 1e-9);
  EXPECT_NEAR(*v.limits.rounding, 0.16, 1e-9);
  EXPECT_DOUBLE_EQ(*v.limits.tolerance, 24);
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kPass) << v.reason;
  EXPECT_THAT(v.reason, HasSubstr("This model magnifies rounding: that of the "
                                  "last bits alone takes PyTorch 0.02 nats "
                                  "from itself, and the file is 0.05 nats"));
}

TEST(LimitsOf, WhatRoundingDoesNotExplainStaysAFault) {
  Verification v = Magnifying(0.17, 0.02);
  v.limits = LimitsOf(v);
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kBroken);
}

TEST(LimitsOf, OrdinaryRoundingWidensNothing) {
  Verification v = Magnifying(5e-7, 1e-8);
  v.limits = LimitsOf(v);
  EXPECT_EQ(v.limits.kld.pass, 1e-7);
  EXPECT_EQ(v.limits.rounding, std::nullopt);
  EXPECT_EQ(v.limits.tolerance, 0.01);
}

// Of what is not the checkpoint's, rounding explains nothing.
TEST(LimitsOf, OnlyFaithfulFilesAreExcused) {
  Verification v = Magnifying(0.05, 0.02);
  v.checks[CheckGroup::kWeights][0].outcome = Outcome::kBroken;
  EXPECT_EQ(LimitsOf(v).kld.pass, 1e-7);
  v = Magnifying(0.05, 0.02);
  v.structure->signatures[0].verified_ops = 399;
  JudgeFigures(v);
  EXPECT_EQ(LimitsOf(v).kld.pass, 1e-7);
}

TEST(LimitsOf, LimitsOfTheUsersOwnStay) {
  Verification v = Magnifying(0.05, 0.02);
  v.settings.max_kld = 1e-3;
  EXPECT_EQ(LimitsOf(v).kld.pass, 1e-3);
  v.settings.max_kld.reset();
  v.settings.tolerance_given = true;
  EXPECT_EQ(LimitsOf(v).tolerance, 0.01);
}

// A prompt has few positions, and they may be the worst.
TEST(LimitsOf, APromptMayHaveThePositionsThatRoundingMovesMost) {
  Limits limits = kFloat;
  limits.kld = {1e-3, 1e-2};
  PromptResult result;
  result.positions.assign(30, Agreeing(0.05));
  result.positions[0] = Differing(5);
  result.positions[0].logits.kld = 0.05;
  JudgePrompt(limits, result);
  EXPECT_EQ(result.outcome, Outcome::kBroken);
  limits.rounding = 0.06;
  JudgePrompt(limits, result);
  EXPECT_EQ(result.outcome, Outcome::kPass);
  result.positions[0].logits.kld = 0.07;
  JudgePrompt(limits, result);
  EXPECT_EQ(OutcomeOf(result, "tokens"), Outcome::kDegraded);
}

}  // namespace
}  // namespace verify_tflite
