#include "locate/rope_probe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace verify_tflite {
namespace {

constexpr int64_t kRows = 64;
constexpr int64_t kHeads = 2;
constexpr int64_t kHeadDim = 16;

// Random keys, and the same rotated pair by pair as the definition says.
struct Keys {
  Keys(double base, double noise, int64_t rotary_dim = kHeadDim,
       int64_t shift = 0)
      : rotary_dim(rotary_dim) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (int64_t row = 0; row < kRows; ++row) position.push_back(row);
    before.resize(kRows * kHeads * kHeadDim);
    for (float& x : before) x = normal(random);
    after = before;
    const int64_t half = rotary_dim / 2;
    for (int64_t at = 0; at < kRows * kHeads; ++at) {
      float* head = &after[at * kHeadDim];
      for (int64_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(at / kHeads + shift) *
            std::pow(base, -2.0 * static_cast<double>(i) /
                               static_cast<double>(rotary_dim));
        const double a = head[i];
        const double b = head[i + half];
        head[i] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
        head[i + half] =
            static_cast<float>(a * std::sin(angle) + b * std::cos(angle));
      }
    }
    for (float& x : after) x += static_cast<float>(noise) * normal(random);
  }

  RopeSample Sample() const {
    return {before, after, kHeads, kHeadDim, rotary_dim, position};
  }

  int64_t rotary_dim;
  std::vector<float> before, after;
  std::vector<int64_t> position;
};

TEST(RopeResidual, IsZeroForTheRightFrequencies) {
  const Keys keys(10000, 0);
  EXPECT_LT(RopeResidual(keys.Sample(), RopeFrequencies(10000, kHeadDim)),
            1e-10);
  EXPECT_GT(RopeResidual(keys.Sample(), RopeFrequencies(20000, kHeadDim)),
            1e-2);
  const std::vector<double> none(kHeadDim / 2, 0.0);
  EXPECT_GT(RopeResidual(keys.Sample(), none), 0.5);
}

TEST(RopeResidual, KnowsShiftedPositions) {
  const Keys keys(10000, 0, kHeadDim, 3);
  const auto frequencies = RopeFrequencies(10000, kHeadDim);
  EXPECT_LT(RopeResidual(keys.Sample(), frequencies, 3), 1e-10);
  EXPECT_GT(RopeResidual(keys.Sample(), frequencies, 2), 1e-2);
}

TEST(RopeResidual, KnowsPairsSideBySide) {
  // A file whose rows of k are still in pairs, (0, 1), (2, 3), …; the
  // reference's are in halves.
  Keys keys(10000, 0);
  std::vector<float> moved(keys.before.size());
  for (int64_t at = 0; at < kRows * kHeads; ++at) {
    float* head = &moved[at * kHeadDim];
    for (int64_t i = 0; i < kHeadDim / 2; ++i) {
      head[i] = keys.before[at * kHeadDim + 2 * i];
      head[i + kHeadDim / 2] = keys.before[at * kHeadDim + 2 * i + 1];
    }
  }
  keys.before = moved;
  const auto frequencies = RopeFrequencies(10000, kHeadDim);
  EXPECT_LT(
      RopeResidual(keys.Sample(), frequencies, 0, RopePairs::kInterleaved),
      1e-10);
  EXPECT_GT(RopeResidual(keys.Sample(), frequencies), 0.5);
}

TEST(RopeResidual, LooksAtWhatRotatesOnly) {
  Keys keys(10000, 0, 8);
  for (int64_t at = 0; at < kRows * kHeads; ++at) {
    keys.after[at * kHeadDim + 8] += 100;
  }
  EXPECT_LT(RopeResidual(keys.Sample(), RopeFrequencies(10000, 8)), 1e-10);
}

TEST(FitRopeBase, MeasuresIt) {
  for (const double base : {500.0, 10000.0, 10100.0, 500000.0, 1e6}) {
    const RopeFit fit = FitRopeBase(Keys(base, 1e-6).Sample());
    EXPECT_NEAR(fit.value / base, 1, 1e-4) << base;
    EXPECT_LT(fit.residual, 1e-9);
  }
}

TEST(FitRopeBase, UnderLinearScaling) {
  const Keys keys(20000, 1e-6);
  // Positions eight times as far apart, as if frequencies were an eighth.
  std::vector<int64_t> positions = keys.position;
  for (int64_t& p : positions) p *= 8;
  RopeSample sample = keys.Sample();
  sample.position = positions;
  const RopeFit fit = FitRopeBase(sample, 8);
  EXPECT_NEAR(fit.value / 20000, 1, 1e-4);
  EXPECT_LT(fit.residual, 1e-9);
}

// What int8 does to keys.
TEST(FitRopeBase, MeasuresItThroughNoise) {
  const RopeFit fit = FitRopeBase(Keys(100000, 0.1).Sample());
  EXPECT_NEAR(fit.value / 100000, 1, 0.02);
  EXPECT_NEAR(fit.residual, 0.01, 0.003);
}

TEST(FitRopeFactor, MeasuresIt) {
  const Keys keys(10000, 1e-6);
  auto frequencies = RopeFrequencies(10000, kHeadDim);
  for (double& f : frequencies) f *= 8;  // what the checkpoint says
  const RopeFit fit = FitRopeFactor(keys.Sample(), frequencies);
  EXPECT_NEAR(fit.value, 8, 1e-3);
  EXPECT_LT(fit.residual, 1e-9);
}

TEST(FitRopeBase, OfNothingRotatedFitsBadly) {
  Keys keys(10000, 0);
  keys.after = keys.before;
  EXPECT_GT(FitRopeBase(keys.Sample()).residual, 0.1);
}

}  // namespace
}  // namespace verify_tflite
