// SPDX-License-Identifier: Apache-2.0
#include "base/number.h"

#include <gtest/gtest.h>

#include <cmath>

namespace verify_tflite {
namespace {

TEST(ElementType, HasANameAndASize) {
  EXPECT_EQ(NameOf(ElementType::kInt4), "INT4");
  EXPECT_EQ(NameOf(ElementType::kFloat8E5M2), "FLOAT8_E5M2");
  EXPECT_EQ(NameOf(ElementType::kUnknown), "unknown type");
  EXPECT_EQ(BitsOf(ElementType::kFloat16), 16);
  EXPECT_EQ(BitsOf(ElementType::kInt2), 2);
  EXPECT_EQ(BitsOf(ElementType::kString), 0);
  EXPECT_EQ(BitsOf(ElementType::kUnknown), 0);
}

// By the definition of the format.
double Binary16(int bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  double value = 0;
  if (exponent == 31) {
    value = fraction == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    value = std::ldexp(fraction, -24);
  } else {
    value = std::ldexp(fraction + 1024, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

TEST(HalfToFloat, EveryNumber) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float found = HalfToFloat(static_cast<uint16_t>(bits));
    const double expected = Binary16(bits);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(found)) << bits;
    } else {
      EXPECT_EQ(found, expected) << bits;
      EXPECT_EQ(std::signbit(found), std::signbit(expected)) << bits;
    }
  }
}

TEST(BFloat16ToFloat, IsTheUpperHalf) {
  EXPECT_EQ(BFloat16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(BFloat16ToFloat(0xc040), -3.0f);
  EXPECT_EQ(BFloat16ToFloat(0x0001), 0x1p-133f);
}

}  // namespace
}  // namespace verify_tflite
