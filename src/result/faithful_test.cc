#include "result/faithful.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "result/testing_structure.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Verification Compared() {
  Verification v;
  v.structure = Structure{.signatures = {SignatureFor("decode", 400),
                                         SignatureFor("prefill_8", 600)},
                          .faults = {},
                          .same_bits = true,
                          .not_run = ""};
  return v;
}

Check CheckOf(const Verification& v) {
  return CheckStructure(v, Outcome::kPass);
}

TEST(CheckStructure, PassesWhatIsCoveredWholly) {
  const Check check = CheckOf(Compared());
  EXPECT_EQ(check.name, "structure");
  EXPECT_EQ(check.outcome, Outcome::kPass);
  EXPECT_EQ(check.value, 1);
  EXPECT_EQ(check.limit, 1);
  EXPECT_EQ(check.detail,
            "1000 of 1000 operators verified in decode, prefill_8 (worst error "
            "4.1e-08 in products with weights, 3e-06 in the rest)");
}

TEST(CheckStructure, NeverPassesWhatWasNotCompared) {
  const auto detail_of = [](const Verification& v) {
    const Check check = CheckOf(v);
    EXPECT_EQ(check.outcome, Outcome::kNotChecked) << check.detail;
    return check.detail;
  };
  Verification v;
  EXPECT_EQ(detail_of(v), "operators were not verified");
  EXPECT_FALSE(CheckOf(v).value.has_value());
  EXPECT_FALSE(CheckOf(v).limit.has_value());
  v.settings.structure = false;
  EXPECT_THAT(detail_of(v), HasSubstr("--structure=off"));
  v = Compared();
  v.structure->not_run = "the file is 2 GB";
  EXPECT_THAT(detail_of(v), HasSubstr("the file is 2 GB"));
  v = Compared();
  v.structure->signatures.clear();
  EXPECT_EQ(detail_of(v), "operators were not verified");
  v = Compared();
  v.structure->same_bits = false;
  EXPECT_THAT(detail_of(v), HasSubstr("other logits than the file"));
  v = Compared();
  v.structure->signatures[1].not_run = "no memory";
  EXPECT_THAT(detail_of(v),
              AllOf(HasSubstr("400 of 400 operators verified in decode ("),
                    HasSubstr("prefill_8 was not compared: no memory")));
  v = Compared();
  v.structure->signatures[1].ops = v.structure->signatures[1].verified_ops = 0;
  EXPECT_THAT(detail_of(v), HasSubstr("prefill_8 has no operators"));
}

TEST(CheckStructure, ListsWhatWasNotCovered) {
  Verification v = Compared();
  SignatureStructure& decode = v.structure->signatures[0];
  decode.verified_ops = 396;
  decode.not_verified = {"TANH", "MUL", "ADD", "SUB"};
  const Check check = CheckOf(v);
  EXPECT_EQ(check.outcome, Outcome::kNotChecked);
  EXPECT_EQ(check.value, 0.996);
  EXPECT_THAT(check.detail, HasSubstr("not covered: 4 operators of decode "
                                      "(TANH, MUL, ADD, … (4 in all))"));
}

TEST(CheckStructure, AFaultIsNeverAPass) {
  Verification v = Compared();
  v.structure->faults = {{.signature = "decode",
                          .stage = "input_norm",
                          .layer = 3,
                          .position = 5,
                          .op = "MUL",
                          .tensor = "x",
                          .error = 0.02,
                          .limit = 1e-5},
                         {.signature = "decode",
                          .stage = "attention",
                          .layer = 4,
                          .op = "",
                          .tensor = ""}};
  EXPECT_EQ(CheckStructure(v, Outcome::kPass).outcome, Outcome::kDegraded);
  EXPECT_EQ(CheckStructure(v, Outcome::kNotChecked).outcome,
            Outcome::kDegraded);
  EXPECT_EQ(CheckStructure(v, Outcome::kBroken).outcome, Outcome::kBroken);
  EXPECT_THAT(CheckOf(v).detail,
              AllOf(HasSubstr("input_norm (MUL) of layer 3 in decode at "
                              "position 5: error 0.02, limit 1e-05 (the first "
                              "of 2 faults); 1000 of 1000"),
                    Not(HasSubstr("attention of layer 4"))));
  // Whatever else was not covered.
  v.structure->same_bits = false;
  v.structure->signatures[1].not_run = "no memory";
  EXPECT_EQ(CheckOf(v).outcome, Outcome::kDegraded);
}

TEST(CheckStructure, AStageBeyondItsLimitIsAFaultThoughNoneIsListed) {
  for (const double worst : {2e-6, double{NAN}}) {
    Verification v = Compared();
    v.structure->signatures[1].stages[0].worst = worst;
    EXPECT_EQ(CheckOf(v).outcome, Outcome::kDegraded);
    EXPECT_THAT(CheckOf(v).detail,
                HasSubstr("query_projection in prefill_8 at position 0"));
  }
}

TEST(SignatureChecks, AskEachByItself) {
  Verification v = Compared();
  v.structure->signatures.push_back(SignatureFor("prefill_64", 600));
  v.structure->signatures.push_back(SignatureFor("prefill_256", 600));
  v.structure->signatures[1].verified_ops = 599;
  v.structure->signatures[2].not_run = "no memory";
  v.structure->faults = {{.signature = "prefill_256",
                          .stage = "query",
                          .op = "ADD",
                          .tensor = "",
                          .error = 1,
                          .limit = 1e-5}};
  v.checks[CheckGroup::kStructure] = {CheckStructure(v, Outcome::kBroken)};
  const std::vector<Check> checks = SignatureChecks(v);
  ASSERT_EQ(checks.size(), 4u);
  EXPECT_EQ(checks[0].name, "decode");
  EXPECT_EQ(checks[0].outcome, Outcome::kPass);
  EXPECT_EQ(checks[1].outcome, Outcome::kNotChecked);
  EXPECT_THAT(checks[1].detail, HasSubstr("1 operators of prefill_8"));
  EXPECT_EQ(checks[2].outcome, Outcome::kNotChecked);
  EXPECT_FALSE(checks[2].value.has_value());
  EXPECT_EQ(checks[3].outcome, Outcome::kBroken);
  EXPECT_THAT(checks[3].detail, HasSubstr("query (ADD) in prefill_256"));
  v.structure->same_bits = false;
  EXPECT_EQ(SignatureChecks(v)[0].outcome, Outcome::kNotChecked);
  v.structure->not_run = "no memory";
  EXPECT_TRUE(SignatureChecks(v).empty());
  EXPECT_TRUE(SignatureChecks({}).empty());
}

TEST(Percent, RoundsOnlyDown) {
  EXPECT_EQ(Percent(1000, 1000), "100 %");
  EXPECT_EQ(Percent(int64_t{1} << 50, int64_t{1} << 50), "100 %");
  EXPECT_EQ(Percent((int64_t{1} << 40) - 1, int64_t{1} << 40), "99.9 %");
  EXPECT_EQ(Percent(999, 1000), "99.9 %");
  EXPECT_EQ(Percent(1, 3), "33.3 %");
  EXPECT_EQ(Percent(0, 0), "0.0 %");
  EXPECT_EQ(Percent(1.0), "100 %");
  EXPECT_EQ(Percent(std::nextafter(1.0, 0.0)), "99.9 %");
  EXPECT_EQ(Percent(NAN), "0.0 %");
}

Verification WithCosts(double total, double weights) {
  Verification v;
  v.evaluation.figures.kld.count = 511;
  v.evaluation.figures.kld.mean = total;
  v.weights_cost.emplace().figures.kld.count = 511;
  v.weights_cost->figures.kld.mean = weights;
  return v;
}

TEST(SplitCost, TheRestIsWhatTheWeightsDoNotExplain) {
  const auto split = SplitCost(WithCosts(0.022, 0.005));
  ASSERT_TRUE(split.has_value());
  EXPECT_DOUBLE_EQ(split->total, 0.022);
  EXPECT_DOUBLE_EQ(split->weights, 0.005);
  EXPECT_DOUBLE_EQ(split->rest, 0.017);
  EXPECT_FALSE(split->all_weights);
}

TEST(SplitCost, TheRestIsNeverBelowZero) {
  const auto split = SplitCost(WithCosts(0.005, 0.0052));
  ASSERT_TRUE(split.has_value());
  EXPECT_EQ(split->rest, 0);
  EXPECT_TRUE(split->all_weights);
  EXPECT_TRUE(SplitCost(WithCosts(0.005, 0.00496))->all_weights);
  EXPECT_FALSE(SplitCost(WithCosts(0.005, 0.0049))->all_weights);
}

TEST(SplitCost, IsOfTheSamePositions) {
  EXPECT_FALSE(SplitCost({}).has_value());
  Verification v = WithCosts(0.022, 0.005);
  v.weights_cost->figures.kld.count = 500;
  EXPECT_FALSE(SplitCost(v).has_value());
  EXPECT_FALSE(SplitCost(WithCosts(NAN, 0.005)).has_value());
  EXPECT_FALSE(SplitCost(WithCosts(0.022, NAN)).has_value());
}

}  // namespace
}  // namespace verify_tflite
