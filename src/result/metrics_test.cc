#include "result/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/json_file.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// tools/record_metrics.py computes these with NumPy in extended precision.
TEST(Compare, AgreesWithNumPy) {
  const auto cases = ReadJsonFile(TestDataPath("metrics.json"));
  ASSERT_GE(cases.size(), 8u);
  for (const auto& [name, expected] : cases.items()) {
    SCOPED_TRACE(name);
    const auto reference = expected["reference"].get<std::vector<float>>();
    const auto candidate = expected["candidate"].get<std::vector<float>>();
    const LogitDifference found =
        Compare(reference, candidate, expected["text_token"].get<int32_t>());
    const auto near = [&](double value, const char* key) {
      const double want = expected[key];
      // 1e-15 absolute: a float32 file's divergence is as small as 1e-12.
      EXPECT_NEAR(value, want, 1e-15 + 1e-12 * std::abs(want)) << key;
    };
    EXPECT_TRUE(found.finite);
    near(found.kld, "kld");
    near(found.max_abs, "max_abs");
    near(found.mean_abs, "mean_abs");
    near(found.rms, "rms");
    near(found.margin, "margin");
    near(found.nmse, "nmse");
    near(found.reference_logprob, "reference_logprob");
    near(found.candidate_logprob, "candidate_logprob");
    EXPECT_EQ(found.rank, expected["rank"]);
    EXPECT_EQ(found.reference_token, expected["reference_token"]);
    EXPECT_EQ(found.candidate_token, expected["candidate_token"]);
  }
}

TEST(Compare, TellsNonFiniteRows) {
  const std::vector<float> good = {1, 2, 3};
  for (const float bad : {kNaN, kInfinity, -kInfinity}) {
    const std::vector<float> row = {1, bad, 3};
    EXPECT_FALSE(Compare(good, row).finite);
    EXPECT_FALSE(Compare(row, good).finite);
  }
}

TEST(Compare, TakesTheReferencesChoiceWhereThereIsNoText) {
  const std::vector<float> row = {1, 3, 2};
  EXPECT_EQ(Compare(row, row).text_token, 1);
  EXPECT_EQ(Compare(row, row, 2).text_token, 2);
}

TEST(Compare, TellsConstantRows) {
  const std::vector<float> row = {1, 3, 2};
  EXPECT_FALSE(Compare(row, row).constant);
  EXPECT_TRUE(Compare(row, std::vector<float>{5, 5, 5}).constant);
  EXPECT_FALSE(Compare(std::vector<float>{5, 5, 5}, row).constant);
}

TEST(Argmax, TakesTheFirstOfEqualsAndNeverNaN) {
  EXPECT_EQ(Argmax(std::vector<float>{1, 3, 3}), 1);
  EXPECT_EQ(Argmax(std::vector<float>{-2, -1}), 1);
  EXPECT_EQ(Argmax(std::vector<float>{kNaN, 1, kNaN, 2}), 3);
  EXPECT_EQ(Argmax(std::vector<float>{5, kNaN}), 0);
  EXPECT_EQ(Argmax(std::vector<float>{kNaN, kNaN}), 0);
  EXPECT_EQ(Argmax(std::vector<float>{-kInfinity, -5}), 1);
}

}  // namespace
}  // namespace verify_tflite
