#include "verify/verification.h"

#include <gtest/gtest.h>

#include <optional>

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

}  // namespace
}  // namespace verify_tflite
