#include "result/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "result/judge.h"
#include "result/testing_structure.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kProof =
    "100 % of weight bytes are this checkpoint's, 100 % of operators verified "
    "(worst error 4.1e-08 in products with weights, 3e-06 in the rest)";

Structure Sound() {
  Structure s;
  s.same_bits = true;
  s.signatures = {SignatureFor("decode", 400)};
  return s;
}

// 500 positions of this divergence; `flips` and `ties` of them differ.
Verification Faithful(Recipe recipe, double kld, int64_t flips = 0,
                      int64_t ties = 0) {
  Verification v;
  v.model.recipe = recipe;
  v.model.kv_type = std::string("FLOAT32");
  v.limits = LimitsFor(recipe, {});
  Position agreeing;
  agreeing.logits.kld = kld;
  v.evaluation.positions.assign(500, agreeing);
  for (int64_t i = 0; i < flips + ties; ++i) {
    Position& p = v.evaluation.positions[static_cast<size_t>(i)];
    p.logits.candidate_token = 1;
    p.tie = i >= flips;
  }
  v.checks[CheckGroup::kWeights] = {{"weights", Outcome::kPass, 1, 1, ""}};
  v.structure = Sound();
  return v;
}

void AddWeightsCost(double mean, Verification& v) {
  v.weights_cost.emplace().figures.kld.mean = mean;
  v.weights_cost->figures.kld.count = 500;
}

std::string ReasonOf(Verification v, Outcome expected) {
  Judge(v);
  EXPECT_EQ(v.outcome, expected) << v.reason;
  return v.reason;
}

TEST(ReasonFor, SaysThatAFileIsFaithfulAndWhatItCosts) {
  Verification v = Faithful(Recipe::kInt8, 0.022, 0, 40);
  AddWeightsCost(0.005, v);
  EXPECT_EQ(ReasonOf(v, Outcome::kPass),
            std::string("Faithful int8 conversion: ") + kProof +
                ". Quantisation costs 0.022 nats (weights 0.005, activations "
                "0.017); 8 % of greedy choices change, all of them near-ties.");
}

TEST(ReasonFor, CountsChangesThatAreNoTies) {
  EXPECT_THAT(
      ReasonOf(Faithful(Recipe::kInt4, 0.1, 3, 40), Outcome::kPass),
      HasSubstr("8.6 % of greedy choices change, all but 3 of them near-ties"));
}

TEST(ReasonFor, HasNoWordOnActivationsThatCostNothing) {
  Verification v = Faithful(Recipe::kInt8, 0.005);
  AddWeightsCost(0.00499, v);
  EXPECT_THAT(ReasonOf(v, Outcome::kPass),
              AllOf(HasSubstr("Quantisation of the weights costs 0.005 nats; "
                              "every greedy choice agrees"),
                    Not(HasSubstr("activations"))));
}

TEST(ReasonFor, OfFloat32SaysThatItAnswersAsPyTorchDoes) {
  Verification v = Faithful(Recipe::kFloat32, 4e-11);
  AddWeightsCost(0, v);
  EXPECT_EQ(ReasonOf(v, Outcome::kPass),
            std::string("Faithful float32 conversion: ") + kProof +
                ". It answers as PyTorch does (mean KL divergence 4e-11 nats, "
                "every greedy choice agrees).");
}

TEST(ReasonFor, NamesCoarserCaches) {
  Verification v = Faithful(Recipe::kFloat32, 8e-3);
  v.model.kv_type = std::string("INT8");
  v.limits = LimitsFor(JudgedRecipe(v.model), {});
  AddWeightsCost(0, v);
  EXPECT_THAT(
      ReasonOf(v, Outcome::kPass),
      AllOf(StartsWith("Faithful float32 conversion with int8 KV caches: "),
            HasSubstr("Its int8 KV caches cost 0.008 nats;")));
}

TEST(ReasonFor, OfFloat16SpeaksOfRounding) {
  EXPECT_THAT(ReasonOf(Faithful(Recipe::kFloat16, 2.5e-6), Outcome::kPass),
              HasSubstr("Rounding to float16 costs 2.5e-06 nats"));
}

TEST(ReasonFor, DoesNotSayFaithfulOfWhatIsNotShown) {
  const auto reason = [](auto&& change, Recipe recipe = Recipe::kInt8) {
    Verification v = Faithful(recipe, 1e-9);
    change(v);
    const std::string text = ReasonOf(v, Outcome::kPass);
    EXPECT_THAT(text,
                AllOf(StartsWith("The TFLite model answers as PyTorch does"),
                      Not(HasSubstr("Faithful"))));
    return text;
  };
  EXPECT_THAT(reason([](Verification& v) {
                v.structure.reset();
                v.settings.structure = false;
              }),
              AllOf(HasSubstr("does, but for what int8 costs: mean KL"),
                    HasSubstr("Not shown to be faithful: 100 % of weight bytes "
                              "are this checkpoint's, no operator verified "
                              "(--structure=off).")));
  EXPECT_THAT(reason([](Verification& v) { v.structure->same_bits = false; },
                     Recipe::kFloat32),
              AllOf(HasSubstr("does: mean KL divergence"),
                    HasSubstr("100 % of operators verified in a copy that "
                              "computes other bits.")));
  EXPECT_THAT(reason([](Verification& v) {
                v.structure->signatures[0].verified_ops = 399;
              }),
              HasSubstr("99.7 % of operators verified."));
  EXPECT_THAT(reason([](Verification& v) {
                v.structure->not_run = "the file is 2 GB";
              }),
              HasSubstr("no operator verified."));
  EXPECT_THAT(reason([](Verification& v) {
                v.checks[CheckGroup::kWeights] = {
                    {"weights", Outcome::kNotChecked, 0.9999999, 1, ""}};
              }),
              HasSubstr("99.9 % of weight bytes are this checkpoint's, 100 % "
                        "of operators verified."));
  EXPECT_THAT(
      reason([](Verification& v) { v.checks[CheckGroup::kWeights].clear(); }),
      HasSubstr("weights not compared, 100 % of operators verified."));
}

// int4 in blocks of 32 of a model of 135M parameters.
TEST(ReasonFor, FaithfulButPoorFailsByTheLimitAlone) {
  Verification v = Faithful(Recipe::kInt4, 0.61, 1, 235);
  AddWeightsCost(0.5, v);
  EXPECT_EQ(ReasonOf(v, Outcome::kDegraded),
            std::string("Faithful int4 conversion, but a poor one: ") + kProof +
                ". Quantisation costs 0.61 nats (weights 0.5, activations "
                "0.11), more than the 0.3 allowed (--max_kld); 47 % of greedy "
                "choices change, all but 1 of them within this model's own "
                "noise.");
  v.settings.max_kld = 1;
  v.limits = LimitsFor(Recipe::kInt4, v.settings);
  EXPECT_THAT(ReasonOf(v, Outcome::kPass),
              AllOf(StartsWith("Faithful int4 conversion: "),
                    HasSubstr("all but 1 of them near-ties")));
}

TEST(ReasonFor, FaithfulButOfNoUse) {
  EXPECT_THAT(
      ReasonOf(Faithful(Recipe::kInt4, 3), Outcome::kBroken),
      StartsWith("Faithful int4 conversion, but too lossy to be of use: "));
}

TEST(ReasonFor, NamesTheCheckWhereTheMeanIsWithin) {
  Verification v = Faithful(Recipe::kInt8, 0.02);
  for (size_t i = 0; i < 20; ++i) {
    v.evaluation.positions[25 * i].logits.kld = 1.5;
  }
  EXPECT_THAT(ReasonOf(v, Outcome::kDegraded),
              HasSubstr("more than int8 should (kld_p99);"));
}

// Then it is not what quantisation costs.
TEST(ReasonFor, AFaithfulFloatFileThatFailsIsSaidToBeOdd) {
  EXPECT_THAT(ReasonOf(Faithful(Recipe::kFloat32, 1e-3), Outcome::kDegraded),
              AllOf(StartsWith("The TFLite model is further from PyTorch than "
                               "it should be (kld, kld_p99): "),
                    HasSubstr("neither its weights nor its operators: 100 %")));
  Verification v = Faithful(Recipe::kInt8, 0.02);
  v.checks[CheckGroup::kSelf] = {{"chunking", Outcome::kBroken, {}, {}, ""}};
  EXPECT_THAT(ReasonOf(v, Outcome::kBroken),
              StartsWith("The TFLite model does not work (chunking): "));
}

TEST(ReasonFor, AFaultIsNamedWhereNoFindingExplainsIt) {
  Verification v = Faithful(Recipe::kInt8, 0.02);
  v.structure->faults = {{.signature = "decode",
                          .stage = "input_norm",
                          .layer = 3,
                          .position = 5,
                          .op = "MUL",
                          .tensor = "",
                          .error = 2e-4,
                          .limit = 1e-5}};
  EXPECT_THAT(ReasonOf(v, Outcome::kDegraded),
              AllOf(StartsWith("The TFLite model computes something else than "
                               "the checkpoint's model: input_norm (MUL) of "
                               "layer 3 in decode at position 5: error 0.0002"),
                    Not(HasSubstr("aithful"))));
  v.findings = {{.id = FindingId::kNormEps,
                 .severity = Outcome::kBroken,
                 .sentence = "The epsilon is another.",
                 .evidence = ""}};
  EXPECT_THAT(ReasonOf(v, Outcome::kBroken),
              StartsWith("The epsilon is another. (mean KL divergence"));
}

TEST(ReasonFor, TiesOfABrokenModelExcuseNothing) {
  Verification v = Faithful(Recipe::kInt8, 3, 0, 8);
  v.checks[CheckGroup::kWeights][0].outcome = Outcome::kNotChecked;
  EXPECT_THAT(ReasonOf(v, Outcome::kBroken),
              HasSubstr("8 of 500 greedy choices differ, all of them only "
                        "within this model's own noise"));
}

TEST(ReasonFor, TooLittleEvidenceIsOfTheCostOnly) {
  Verification v = Faithful(Recipe::kInt8, 0.02);
  v.evaluation.positions.resize(10);
  EXPECT_THAT(ReasonOf(v, Outcome::kInconclusive),
              AllOf(StartsWith("Faithful int8 conversion: 100 %"),
                    HasSubstr("Of what it costs, too little evidence (kld)")));
  v.structure.reset();
  EXPECT_THAT(ReasonOf(v, Outcome::kInconclusive),
              StartsWith("Too little evidence (kld): "));
}

}  // namespace
}  // namespace verify_tflite
