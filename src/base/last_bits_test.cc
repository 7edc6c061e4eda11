#include "base/last_bits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace verify_tflite {
namespace {

using ::testing::AnyOf;

TEST(LastBitsTest, MovesToANeighbourOnEitherSide) {
  std::vector<float> values(1000, 1.5f);
  LastBits().Move(values);
  const float above = std::nextafter(1.5f, 2.0f);
  const float below = std::nextafter(1.5f, 1.0f);
  for (const float value : values) EXPECT_THAT(value, AnyOf(above, below));
  const auto up = std::ranges::count(values, above);
  EXPECT_GT(up, 400);
  EXPECT_LT(up, 600);
}

TEST(LastBitsTest, LeavesWhatNoSumGives) {
  const float largest = std::numeric_limits<float>::max();
  const float infinite = std::numeric_limits<float>::infinity();
  const std::vector<float> before = {0.0f,     -0.0f,    largest,
                                     -largest, infinite, -infinite};
  std::vector<float> values = before;
  LastBits().Move(values);
  EXPECT_EQ(values, before);
  values = {std::nanf("")};
  LastBits().Move(values);
  EXPECT_TRUE(std::isnan(values[0]));
}

TEST(LastBitsTest, IsTheSameAtEveryRun) {
  std::vector<float> one(100, -3.0f);
  std::vector<float> other = one;
  LastBits bits;
  bits.Move(one);
  LastBits().Move(other);
  EXPECT_EQ(one, other);
  std::vector<float> next(100, -3.0f);
  bits.Move(next);
  EXPECT_NE(next, one);
}

}  // namespace
}  // namespace verify_tflite
