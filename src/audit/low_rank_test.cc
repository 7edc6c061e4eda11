#include "audit/low_rank.h"

#include <gtest/gtest.h>

#include <random>

namespace verify_tflite {
namespace {

std::vector<float> Random(int64_t count, float size, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, size);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

std::vector<float> Product(int64_t rows, int64_t cols, int64_t rank) {
  const auto a = Random(rows * rank, 1, 1), b = Random(rank * cols, 1, 2);
  std::vector<float> values(rows * cols);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      for (int64_t k = 0; k < rank; ++k) {
        values[i * cols + j] += a[i * rank + k] * b[k * cols + j];
      }
    }
  }
  return values;
}

TEST(LowRank, IsFound) {
  const LowRank found = MeasureRank(Product(60, 90, 3), 60, 90, 0);
  EXPECT_TRUE(found.is_low);
  EXPECT_EQ(found.rank, 3);
}

TEST(LowRank, IsFoundInNoise) {
  auto values = Product(60, 90, 4);
  const auto noise = Random(60 * 90, 0.4f, 3);
  double energy = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] += noise[i];
    energy += double{noise[i]} * noise[i];
  }
  const LowRank found = MeasureRank(values, 60, 90, energy);
  EXPECT_TRUE(found.is_low);
  EXPECT_EQ(found.rank, 4);
}

TEST(LowRank, FullRankIsNot) {
  EXPECT_FALSE(MeasureRank(Random(60 * 90, 1, 1), 60, 90, 0).is_low);
  EXPECT_FALSE(MeasureRank(Product(60, 90, 30), 60, 90, 0).is_low);
}

TEST(LowRank, NothingToMeasure) {
  EXPECT_FALSE(MeasureRank(std::vector<float>(60 * 90), 60, 90, 0).is_low);
  EXPECT_FALSE(MeasureRank({1, 2, 3, 4}, 2, 2, 0).is_low);
  // Noise alone.
  EXPECT_FALSE(MeasureRank(Product(60, 90, 1), 60, 90, 1e6).is_low);
}

}  // namespace
}  // namespace verify_tflite
