#include "verify/range_findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;

// A tensor of which `share` of its size was cut off.
TensorUse Use(double share) {
  TensorUse tensor;
  tensor.signature = "decode";
  tensor.op = "FULLY_CONNECTED";
  tensor.tensor = "layer 1/o_proj";
  tensor.use = {.range = {.step = 0.01, .low = -1.28, .high = 1.27},
                .least = -2,
                .most = 5,
                .values = 1000,
                .outside = 30,
                .squares = 100,
                .lost_squares = 100 * share};
  return tensor;
}

TEST(FindRanges, SaysWhichTensorAndHowMuchIsCutOff) {
  const TensorUse uses[] = {Use(0.001), Use(0.1), Use(0)};
  const auto finding = FindRanges(uses, Outcome::kPass);
  ASSERT_TRUE(finding.has_value());
  EXPECT_EQ(finding->id, FindingId::kActivationRange);
  EXPECT_EQ(finding->severity, Outcome::kDegraded);
  EXPECT_EQ(
      finding->evidence,
      "\"decode\": FULLY_CONNECTED (\"layer 1/o_proj\") holds -1.28 to "
      "1.27; the checkpoint's model has -2 to 5 there. 3 % of its numbers "
      "are cut off, 10 % of its size.");
}

TEST(FindRanges, AFewNumbersCostNothing) {
  const TensorUse uses[] = {Use(0), Use(0.01)};
  EXPECT_FALSE(FindRanges(uses, Outcome::kPass).has_value());
  EXPECT_FALSE(FindRanges({}, Outcome::kBroken).has_value());
}

TEST(FindRanges, LessExplainsAFileBeyondItsLimits) {
  const TensorUse uses[] = {Use(0.01)};
  const auto finding = FindRanges(uses, Outcome::kBroken);
  ASSERT_TRUE(finding.has_value());
  EXPECT_EQ(finding->severity, Outcome::kBroken);
  const TensorUse less[] = {Use(0.001)};
  EXPECT_FALSE(FindRanges(less, Outcome::kBroken).has_value());
}

TEST(FindRanges, WhatIsCutOffInsideAnOperatorIsSaid) {
  TensorUse inside = Use(0.1);
  inside.use.least = -1;
  inside.use.most = 1;
  const TensorUse uses[] = {inside};
  EXPECT_THAT(FindRanges(uses, Outcome::kPass)->evidence,
              HasSubstr("by a tensor inside that operator or before it"));
}

}  // namespace
}  // namespace verify_tflite
