#include "result/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/json_file.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

double Number(const nlohmann::json& value) {
  return value.is_null() ? std::numeric_limits<double>::infinity()
                         : value.get<double>();
}

void ExpectNear(double found, double expected, const char* what) {
  if (std::isinf(expected)) {
    EXPECT_TRUE(std::isinf(found)) << what;
  } else {
    EXPECT_NEAR(found, expected, 1e-12 + 1e-9 * std::abs(expected)) << what;
  }
}

// tools/record_statistics.py computes these with NumPy and SciPy.
TEST(Summarize, AgreesWithNumPyAndSciPy) {
  const auto cases = ReadJsonFile(TestDataPath("statistics.json"))["samples"];
  ASSERT_GE(cases.size(), 5u);
  for (const auto& [name, expected] : cases.items()) {
    SCOPED_TRACE(name);
    const auto values = expected["values"].get<std::vector<double>>();
    const Distribution found = Summarize(values);
    EXPECT_EQ(found.count, static_cast<int64_t>(values.size()));
    ExpectNear(found.mean, expected["mean"], "mean");
    ExpectNear(found.median, expected["median"], "median");
    ExpectNear(found.p90, expected["p90"], "p90");
    ExpectNear(found.p99, expected["p99"], "p99");
    ExpectNear(found.max, expected["max"], "max");
    ExpectNear(found.p99_interval.low, Number(expected["p99_low"]), "p99_low");
    ExpectNear(found.p99_interval.high, Number(expected["p99_high"]),
               "p99_high");
    if (expected["standard_error"].is_null()) {
      EXPECT_TRUE(std::isnan(found.standard_error));
      EXPECT_TRUE(std::isinf(found.mean_interval.high));
      continue;
    }
    ExpectNear(found.standard_error, expected["standard_error"], "error");
    // The quantile of Student's t is an expansion.
    const double half = expected["mean_half_width"];
    EXPECT_NEAR(found.mean_interval.high - found.mean, half, 1e-3 * half);
    EXPECT_NEAR(found.mean - found.mean_interval.low, half, 1e-3 * half);
  }
}

TEST(ShareInterval, AgreesWithSciPy) {
  const auto cases = ReadJsonFile(TestDataPath("statistics.json"))["shares"];
  ASSERT_GE(cases.size(), 5u);
  for (const auto& expected : cases) {
    const Interval found = ShareInterval(expected["count"], expected["total"]);
    EXPECT_NEAR(found.low, expected["low"], 1e-9);
    EXPECT_NEAR(found.high, expected["high"], 1e-9);
  }
}

TEST(ShareInterval, OfNothingIsEverything) {
  EXPECT_EQ(ShareInterval(0, 0).low, 0);
  EXPECT_EQ(ShareInterval(0, 0).high, 1);
}

TEST(StudentQuantile, AgreesWithSciPy) {
  const auto cases = ReadJsonFile(TestDataPath("statistics.json"))["student"];
  for (const auto& [degrees, expected] : cases.items()) {
    const double want = expected;
    EXPECT_NEAR(StudentQuantile(std::stoi(degrees)), want, 1e-3 * want)
        << degrees;
  }
}

TEST(Summarize, OfNothingIsZeroAndOfNaNIsNaN) {
  EXPECT_EQ(Summarize({}).count, 0);
  EXPECT_EQ(Summarize({}).mean, 0);
  const std::vector<double> values = {
      1, std::numeric_limits<double>::quiet_NaN(), 2};
  const Distribution d = Summarize(values);
  EXPECT_TRUE(std::isnan(d.mean));
  EXPECT_TRUE(std::isnan(d.max));
  EXPECT_TRUE(std::isnan(d.mean_interval.high));
}

}  // namespace
}  // namespace verify_tflite
