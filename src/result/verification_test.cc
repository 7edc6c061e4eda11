#include "result/verification.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

namespace verify_tflite {
namespace {

TEST(FirstDifference, FindsWhereTheTextsPart) {
  PromptResult result;
  result.reference_ids = {1, 2, 3};
  result.candidate_ids = {1, 2, 3};
  EXPECT_EQ(FirstDifference(result), std::nullopt);
  result.candidate_ids = {1, 5, 3};
  EXPECT_EQ(FirstDifference(result), 1u);
  // One ends earlier.
  result.candidate_ids = {1, 2};
  EXPECT_EQ(FirstDifference(result), 2u);
  result.candidate_ids = {1, 2, 3, 4};
  EXPECT_EQ(FirstDifference(result), 3u);
}

TEST(NumFailed, CountsPrompts) {
  Verification verification;
  verification.prompts.resize(3);
  verification.prompts[1].outcome = Outcome::kDegraded;
  verification.prompts[2].outcome = Outcome::kBroken;
  EXPECT_EQ(NumFailed(verification), 2);
}

// A short run whose positions differ much has a wide interval.
TEST(Summarize, ADivergenceIsNeverBelowZero) {
  std::vector<Position> positions(2 * kBlock);
  for (size_t i = 0; i < kBlock; ++i) {
    positions[i].logits.kld = 1;
    positions[i].logits.candidate_logprob = -1;
  }
  std::vector<const Position*> pointers;
  for (const Position& p : positions) pointers.push_back(&p);
  const Aggregate figures = Summarize(pointers);
  EXPECT_EQ(figures.kld.mean_interval.low, 0);
  EXPECT_GT(figures.kld.mean_interval.high, 1);
  EXPECT_LT(figures.logprob.mean_interval.low, -1);  // may well be
  positions[0].logits.kld = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(Summarize(pointers).kld.mean_interval.low));
}

}  // namespace
}  // namespace verify_tflite
