#include "base/rotation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace verify_tflite {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

std::optional<Rotation> From(int64_t size, const std::vector<float>& values) {
  return Rotation::From(size, std::as_bytes(std::span(values)));
}

// The rows are not symmetric, and not in Sylvester's order.
const std::vector<float> kMatrix = {0.5,  0.5,  0.5,  0.5, -0.5, 0.5,
                                    -0.5, 0.5,  -0.5, 0.5, 0.5,  -0.5,
                                    -0.5, -0.5, 0.5,  0.5};

std::vector<float> Sylvester(int64_t size, float c) {
  std::vector<float> h = {c};
  for (int64_t n = 1; n < size; n *= 2) {
    std::vector<float> next(4 * h.size());
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const float v = h[i * n + j];
        next[i * 2 * n + j] = next[i * 2 * n + n + j] = v;
        next[(n + i) * 2 * n + j] = v;
        next[(n + i) * 2 * n + n + j] = -v;
      }
    }
    h = next;
  }
  return h;
}

TEST(Rotation, AnyHadamardMatrix) {
  const auto rotation = From(4, kMatrix);
  ASSERT_TRUE(rotation);
  std::vector<double> x = {1, 2, 3, 5};
  rotation->Multiply(x);
  EXPECT_THAT(x, ElementsAre(5.5, 1.5, -0.5, 2.5));
  rotation->Undo(x);
  EXPECT_THAT(x, ElementsAre(1, 2, 3, 5));
  x = {-4.5, 0.5, 3.5, 2.5};  // the transpose by 1, 2, 3, 5
  rotation->UndoTransposed(x);
  EXPECT_THAT(x, ElementsAre(1, 2, 3, 5));
}

// By their definition, of two blocks, not of length 1.
TEST(Rotation, SylvestersMatrix) {
  const std::vector<float> h = Sylvester(8, 0.3f);
  const auto rotation = From(8, h);
  ASSERT_TRUE(rotation);
  std::vector<double> x, expected(16);
  for (int i = 0; i < 16; ++i) x.push_back(i * i % 7 - 2.5);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      expected[i] += double{h[i % 8 * 8 + j]} * x[i / 8 * 8 + j];
    }
  }
  const std::vector<double> before = x;
  rotation->Multiply(x);
  EXPECT_THAT(x, Pointwise(DoubleNear(1e-12), expected));
  rotation->Undo(x);
  EXPECT_THAT(x, Pointwise(DoubleNear(1e-12), before));
}

TEST(Rotation, IsNotAnyMatrix) {
  EXPECT_FALSE(From(1, {1}));
  EXPECT_FALSE(From(2, {1, 1, 1}));
  EXPECT_FALSE(From(2, {1, 1, 1, 1}));
  EXPECT_FALSE(From(2, {0, 0, 0, 0}));
  EXPECT_FALSE(From(2, {1, 1, 1, -2}));
  EXPECT_FALSE(From(2, {1, 1, 1, NAN}));
  EXPECT_FALSE(From(2, {NAN, NAN, NAN, NAN}));
  EXPECT_FALSE(From(int64_t{1} << 40, {1}));
  EXPECT_FALSE(From(-1, {1}));
  std::vector<float> one_wrong = Sylvester(128, 1);
  EXPECT_TRUE(From(128, one_wrong));
  one_wrong[5000] *= -1;
  EXPECT_FALSE(From(128, one_wrong));
}

TEST(Rotation, LargeOnesAreSylvesters) {
  std::vector<float> h = Sylvester(2048, 1);
  EXPECT_TRUE(From(2048, h));
  for (int64_t i = 0; i < 2048; ++i) h[i] *= -1;  // still orthogonal
  EXPECT_FALSE(From(2048, h));
  h = Sylvester(64, 1);
  for (int64_t i = 0; i < 64; ++i) h[i] *= -1;
  EXPECT_TRUE(From(64, h));
}

}  // namespace
}  // namespace verify_tflite
