// SPDX-License-Identifier: Apache-2.0
#include "reference/experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

// Of the logarithms of scores, which softmax gives back.
std::vector<float> Logs(std::vector<float> scores) {
  for (float& score : scores) score = std::log(score);
  return scores;
}

std::vector<float> Weights(const ExpertsConfig& config, std::vector<float> row,
                           const std::vector<float>& bias = {}) {
  WeighExperts(config, bias, row);
  return row;
}

auto Near(float value) { return FloatNear(value, 1e-6f); }

TEST(Experts, AreThoseOfTheLargestScores) {
  const ExpertsConfig config = {.count = 4, .taken = 2};
  EXPECT_THAT(Weights(config, Logs({0.1f, 0.4f, 0.2f, 0.3f})),
              ElementsAre(0, Near(0.4f), 0, Near(0.3f)));
}

TEST(Experts, WeightsMayBeDividedByTheirSumAndScaled) {
  ExpertsConfig config = {.count = 4, .taken = 2, .normalised = true};
  const std::vector<float> row = Logs({0.1f, 0.4f, 0.3f, 0.2f});
  EXPECT_THAT(Weights(config, row),
              ElementsAre(0, Near(4 / 7.0f), Near(3 / 7.0f), 0));
  config.scale = 2;
  EXPECT_THAT(Weights(config, row),
              ElementsAre(0, Near(8 / 7.0f), Near(6 / 7.0f), 0));
  config.least_sum = 1.4;
  EXPECT_THAT(Weights(config, row),
              ElementsAre(0, Near(4 / 7.0f), Near(3 / 7.0f), 0));
}

TEST(Experts, ABiasIsOfTheChoiceAlone) {
  const ExpertsConfig config = {.count = 4, .taken = 1, .choice_bias = true};
  EXPECT_THAT(Weights(config, Logs({0.1f, 0.4f, 0.3f, 0.2f}), {0.4f, 0, 0, 0}),
              ElementsAre(Near(0.1f), 0, 0, 0));
}

// The second group has the best one, the first the best two.
TEST(Experts, AreChosenFromTheBestGroups) {
  const ExpertsConfig config = {
      .count = 4, .taken = 2, .groups = 2, .groups_taken = 1};
  EXPECT_THAT(Weights(config, Logs({0.3f, 0.25f, 0.05f, 0.4f})),
              ElementsAre(Near(0.3f), Near(0.25f), 0, 0));
}

TEST(Experts, SigmoidsDoNotDependOnEachOther) {
  const ExpertsConfig config = {
      .count = 2, .taken = 2, .scores = RouterScores::kSigmoid};
  EXPECT_THAT(Weights(config, {0, 100}), ElementsAre(Near(0.5f), Near(1)));
}

TEST(Experts, OfEqualScoresTheFirstIsTaken) {
  const ExpertsConfig config = {.count = 3, .taken = 1};
  EXPECT_THAT(Weights(config, {1, 2, 2}), ElementsAre(0, testing::Gt(0), 0));
}

TEST(Experts, NumbersThatAreNoneDoNoHarm) {
  const ExpertsConfig config = {.count = 3, .taken = 2};
  EXPECT_EQ(Weights(config, {NAN, NAN, NAN}).size(), 3u);
}

TEST(Tie, IsAChoiceAmongScoresThatAreEqualButForRounding) {
  const ExpertsConfig config = {.count = 3, .taken = 1, .normalised = true};
  const std::vector<float> router = {2, 2 + 2e-7f, 0};
  const std::vector<float> first = {1, 0, 0};
  const auto weights = WeightsOfTie(config, {}, router, first);
  ASSERT_TRUE(weights.has_value());
  EXPECT_THAT(*weights, ElementsAre(Near(1), 0, 0));
}

TEST(Tie, IsNoOtherChoice) {
  const ExpertsConfig config = {.count = 3, .taken = 1, .normalised = true};
  const std::vector<float> router = {2, 2.00001f, 0};
  // Another score, another number of experts, and what is taken anyway.
  for (const std::vector<float>& weights :
       {std::vector<float>{1, 0, 0}, {0, 0, 1}, {1, 1, 0}, {0, 1, 0}}) {
    EXPECT_EQ(WeightsOfTie(config, {}, router, weights), std::nullopt);
  }
}

}  // namespace
}  // namespace verify_tflite
