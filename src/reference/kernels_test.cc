#include "reference/kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace verify_tflite {
namespace {

// All 2^16 patterns of a 16-bit type, after one byte that spoils alignment.
std::vector<std::byte> AllHalves() {
  std::vector<std::byte> bytes(1 + 2 * 65536);
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto pattern = static_cast<uint16_t>(i);
    std::memcpy(&bytes[1 + 2 * i], &pattern, 2);
  }
  return bytes;
}

// The value of a binary16 pattern by its definition.
double Half(uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double fraction = bits & 1023;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 31) {
    return fraction == 0 ? sign * INFINITY : std::nan("");
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(Kernels, WidensEveryF16) {
  for (const Kernels& kernels : AvailableKernels()) {
    const std::vector<std::byte> halves = AllHalves();
    std::vector<float> out(65536);
    // An odd count leaves a rest after full vectors.
    kernels.widen(DType::kF16, halves.data() + 1, 65535, out.data());
    for (uint32_t i = 0; i < 65535; ++i) {
      const double expected = Half(i);
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(out[i])) << i;
      } else {
        ASSERT_EQ(out[i], expected) << i;
        ASSERT_EQ(std::signbit(out[i]), std::signbit(expected)) << i;
      }
    }
    for (const uint32_t i :
         {0u, 1u, 1023u, 0x8001u, 0x7c00u, 0xfc00u, 0x3c00u}) {
      float one;
      kernels.widen(DType::kF16, halves.data() + 1 + 2 * i, 1, &one);
      EXPECT_EQ(one, Half(i)) << kernels.name << " " << i;
    }
  }
}

TEST(Kernels, WidensEveryBF16) {
  const std::vector<std::byte> halves = AllHalves();
  std::vector<float> out(65536);
  for (const Kernels& kernels : AvailableKernels()) {
    kernels.widen(DType::kBF16, halves.data() + 1, 65535, out.data());
    for (uint32_t i = 0; i < 65535; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), i << 16);
    }
  }
}

TEST(Kernels, CopiesF32) {
  const float values[] = {1,  -2, 3e38f, 1e-45f, 5,  6,  7,  8, 9,
                          10, 11, 12,    13,     14, 15, 16, 17};
  std::vector<std::byte> bytes(1 + sizeof(values));
  std::memcpy(&bytes[1], values, sizeof(values));
  float out[17];
  Widen(DType::kF32, &bytes[1], 17, out);
  EXPECT_EQ(std::memcmp(out, values, sizeof(values)), 0);
}

// Random weights of `dtype`: 16 random bits, exponents near 1.
TEST(Kernels, RoundsF64ToTheNearestFloat32) {
  std::vector<double> doubles = {
      0.0, -0.0, 0.1, -1.0 / 3, 1e300, -INFINITY, 1e-310,
      // Halfway between two floats: to even; a little above: up.
      1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-50, 1 + 0x3p-24, 0x1p-149, 0x1.8p-150};
  while (doubles.size() < 37) doubles.push_back(1.0 / doubles.size());
  std::vector<std::byte> bytes(1 + doubles.size() * sizeof(double));
  std::memcpy(&bytes[1], doubles.data(), bytes.size() - 1);
  for (const Kernels& kernels : AvailableKernels()) {
    std::vector<float> out(doubles.size());
    kernels.widen(DType::kF64, &bytes[1], 37, out.data());
    for (size_t i = 0; i < doubles.size(); ++i) {
      EXPECT_EQ(std::bit_cast<uint32_t>(out[i]),
                std::bit_cast<uint32_t>(static_cast<float>(doubles[i])))
          << kernels.name << " " << doubles[i];
    }
  }
}

std::vector<std::byte> RandomWeights(DType dtype, int64_t count,
                                     std::mt19937& random) {
  std::vector<std::byte> bytes(1 + count * SizeOf(dtype));
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < count; ++i) {
    const float value = normal(random);
    std::byte* to = &bytes[1 + i * SizeOf(dtype)];
    if (dtype == DType::kF64) {
      const double value = normal(random);
      std::memcpy(to, &value, 8);
    } else if (dtype == DType::kF32) {
      std::memcpy(to, &value, 4);
    } else if (dtype == DType::kBF16) {
      const uint32_t bits = std::bit_cast<uint32_t>(value) >> 16;
      std::memcpy(to, &bits, 2);
    } else {
      const uint16_t bits = 0x3000 | (random() & 0x8fff);  // 0.125 … 2
      std::memcpy(to, &bits, 2);
    }
  }
  return bytes;
}

void CheckDot(const Kernels& kernels, DType dtype, int64_t outputs,
              int64_t inputs, int64_t rows) {
  std::mt19937 random(1);
  const auto weights = RandomWeights(dtype, outputs * inputs, random);
  std::vector<float> wide(outputs * inputs);
  Widen(dtype, &weights[1], outputs * inputs, wide.data());
  std::normal_distribution<float> normal;
  std::vector<float> x(rows * inputs);
  for (float& value : x) value = normal(random);
  const int64_t stride = outputs + 3;
  std::vector<float> y(rows * stride, -7);
  kernels.dot(
      {dtype, &weights[1], outputs, inputs, x.data(), rows, y.data(), stride});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < outputs; ++o) {
      double sum = 0;
      double size = 0;
      for (int64_t i = 0; i < inputs; ++i) {
        const double product = double{x[r * inputs + i]} * wide[o * inputs + i];
        sum += product;
        size += std::abs(product);
      }
      ASSERT_NEAR(y[r * stride + o], sum, 3e-7 * size);
    }
    for (int64_t o = outputs; o < stride; ++o) {
      ASSERT_EQ(y[r * stride + o], -7) << "written past the outputs";
    }
  }
}

TEST(Kernels, DotEqualsAPlainSum) {
  for (const Kernels& kernels : AvailableKernels()) {
    for (const DType dtype :
         {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
      for (const int64_t outputs : {1, 3, 4, 9}) {
        for (const int64_t inputs : {1, 15, 16, 64, 577}) {
          for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 13}) {
            SCOPED_TRACE(testing::Message()
                         << kernels.name << " " << NameOf(dtype) << " "
                         << outputs << "x" << inputs << " by " << rows);
            CheckDot(kernels, dtype, outputs, inputs, rows);
          }
        }
      }
    }
  }
}

TEST(Kernels, DotOfARowHasTheSameBitsInAnyCompany) {
  for (const Kernels& kernels : AvailableKernels()) {
    std::mt19937 random(1);
    const auto weights = RandomWeights(DType::kBF16, 9 * 100, random);
    std::normal_distribution<float> normal;
    std::vector<float> x(13 * 100);
    for (float& value : x) value = normal(random);
    std::vector<float> together(13 * 9);
    kernels.dot(
        {DType::kBF16, &weights[1], 9, 100, x.data(), 13, together.data(), 9});
    std::vector<float> alone(9);
    for (int64_t row = 0; row < 13; ++row) {
      kernels.dot({DType::kBF16, &weights[1], 9, 100, &x[row * 100], 1,
                   alone.data(), 9});
      EXPECT_EQ(std::memcmp(alone.data(), &together[row * 9], 36), 0)
          << kernels.name << " row " << row;
    }
  }
}

}  // namespace
}  // namespace verify_tflite
