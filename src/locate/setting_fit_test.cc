#include "locate/setting_fit.h"

#include <gtest/gtest.h>

#include <cmath>

namespace verify_tflite {
namespace {

// What a stage is off by: as much as the setting is, above a limit.
auto ErrorAround(double right, double slope, double limit = 1e-5) {
  return [=](double x) {
    const double error = std::tanh(slope * std::abs(std::log(x / right)));
    return error <= limit ? 0 : error;
  };
}

TEST(FitSetting, FindsTheOneValueWithoutAnError) {
  for (const double right : {0.2525, 0.25025, 0.0625, 0.301511, 4.0}) {
    const auto found =
        FitSetting(0.25 / 32, 0.25 * 32, 10, ErrorAround(right, 0.5));
    ASSERT_TRUE(found.has_value()) << right;
    EXPECT_NEAR(*found / right, 1, 1e-5) << right;
  }
}

// An epsilon beside a large sum of squares: all of a range is as good.
TEST(FitSetting, TakesTheRoundestOfARange) {
  const auto found = FitSetting(1e-12, 1e-1, 11, ErrorAround(2.1e-5, 2e-5));
  ASSERT_TRUE(found.has_value());
  EXPECT_NEAR(*found, 2e-5, 1e-9);
}

TEST(FitSetting, FindsAValueOfTheGrid) {
  const auto found = FitSetting(0.125, 8, 6, ErrorAround(2, 1));
  ASSERT_TRUE(found.has_value());
  EXPECT_NEAR(*found, 2, 1e-9);
}

TEST(FitSetting, FindsNothingWhereSomethingElseIsWrong) {
  const auto other = [](double x) {
    return 1e-3 + std::abs(std::log(x / 0.2525));
  };
  EXPECT_FALSE(FitSetting(0.25 / 32, 0.25 * 32, 10, other).has_value());
}

TEST(FitSetting, FindsNothingWhereItIsNotMeasured) {
  // So large a cap is none.
  const auto cap = [](double x) { return x > 100 ? 0 : 1 / x; };
  EXPECT_FALSE(FitSetting(1, 1000, 10, cap).has_value());
  EXPECT_FALSE(FitSetting(1, 1000, 10, [](double) { return 0.0; }));
}

TEST(RoundestBetween, HasTheFewestDigits) {
  EXPECT_NEAR(RoundestBetween(0.2524, 0.2526), 0.2525, 1e-12);
  EXPECT_NEAR(RoundestBetween(0.9, 1.2), 1, 1e-12);
  EXPECT_NEAR(RoundestBetween(1.4e-5, 2.9e-5), 2e-5, 1e-12);
  EXPECT_NEAR(RoundestBetween(9.97, 9.99), 9.98, 1e-12);
}

}  // namespace
}  // namespace verify_tflite
