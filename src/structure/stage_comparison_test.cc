#include "structure/stage_comparison.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace verify_tflite {
namespace {

TEST(RowError, IsRelativeToWhatIsExpected) {
  const std::vector<float> expected = {3, 4};
  EXPECT_EQ(RowError(expected, expected), 0);
  EXPECT_NEAR(RowError(expected, std::vector<float>{3, 4.05f}), 0.01, 1e-6);
  const std::vector<float> zeros = {0, 0};
  EXPECT_EQ(RowError(zeros, zeros), 0);
  EXPECT_EQ(RowError(zeros, expected), std::numeric_limits<double>::infinity());
  const std::vector<float> nan = {3, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_EQ(RowError(expected, nan), std::numeric_limits<double>::infinity());
}

TEST(GeluLimit, IsOfWhatTheActivationAppliesTo) {
  constexpr double kEach = 4 * 0x1p-24;
  const std::vector<float> x = {-3, 4};
  EXPECT_EQ(GeluLimit({}, {}, x), 0);
  EXPECT_DOUBLE_EQ(GeluLimit(x, {}, x), kEach);
  // In its tail GELU is much smaller than x.
  EXPECT_DOUBLE_EQ(GeluLimit(x, {}, std::vector<float>{0.5f, 0}), 10 * kEach);
  const std::vector<float> factor = {2, 0};
  EXPECT_DOUBLE_EQ(GeluLimit(x, factor, std::vector<float>{0, 0.5f}),
                   12 * kEach);
  EXPECT_EQ(GeluLimit(x, factor, std::vector<float>{0, 0}), 0);
}

}  // namespace
}  // namespace verify_tflite
