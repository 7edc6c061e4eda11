// What the rounding of activations must be like, whoever does it. That it is
// LiteRT's, to the last bit, structure_check_models_test.cc shows on real
// files.
#include "reference/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace verify_tflite {
namespace {

// What q stands for is no further from x than half a step, at the ends of the
// range than one, and the range has 256 steps from min(0, x) to max(0, x).
TEST(QuantiseRows, IsWithinHalfAStepOfWhatItRounds) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const float shift : {0.0f, 3.0f, -3.0f, 0.01f}) {
    std::vector<float> x(200);
    for (float& value : x) value = normal(random) + shift;
    const QuantisedRows rows = QuantiseRows({x.data(), 1}, 200);
    ASSERT_EQ(rows.k.size(), 1u);
    const double low = std::min(0.0f, *std::ranges::min_element(x));
    const double high = std::max(0.0f, *std::ranges::max_element(x));
    EXPECT_NEAR(rows.k[0], 255 / (high - low), 1e-5 * rows.k[0]);
    double least = 1e9;
    double most = -1e9;
    for (size_t i = 0; i < x.size(); ++i) {
      const double integer = rows.values[i];
      EXPECT_EQ(integer, std::round(integer));
      // The ends may be off by what the zero point is rounded by, too.
      const bool at_end =
          x[i] <= low + 1 / rows.k[0] || x[i] >= high - 1 / rows.k[0];
      EXPECT_LE(std::abs(integer / rows.k[0] - x[i]),
                (at_end ? 1.001 : 0.501) / rows.k[0]);
      least = std::min(least, integer);
      most = std::max(most, integer);
    }
    EXPECT_LE(most - least, 255);
  }
}

// By hand: k = 255 / 2.55 = 100; at_low + at_high = (-128 - 50) + (127 + 205) >
// 0, so the zero point is -128 + 50 = -78, and 0.3 becomes 30.
TEST(QuantiseRows, ByHand) {
  const std::vector<float> x = {-0.5f, 0.3f, 2.05f, 0.0f, 0.304f};
  const QuantisedRows rows = QuantiseRows({x.data(), 1}, 5);
  EXPECT_NEAR(rows.k[0], 100, 1e-4);
  EXPECT_THAT(rows.values, testing::ElementsAre(-50, 30, 205, 0, 30));
}

TEST(QuantiseRows, EachRowOnItsOwn) {
  const std::vector<float> x = {1.0f, -1.0f, 100.0f, 50.0f, 0.0f, 0.0f};
  const QuantisedRows rows = QuantiseRows({x.data(), 3}, 2);
  EXPECT_FLOAT_EQ(rows.k[0], 127.5f);
  EXPECT_FLOAT_EQ(rows.k[1], 2.55f);
  // A row of zeros stays one.
  EXPECT_EQ(rows.values[4], 0);
  EXPECT_EQ(rows.values[5], 0);
  EXPECT_TRUE(std::isfinite(rows.k[2]));
}

}  // namespace
}  // namespace verify_tflite
