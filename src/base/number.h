// SPDX-License-Identifier: Apache-2.0
// The types of stored numbers.
#ifndef VERIFY_TFLITE_BASE_NUMBER_H_
#define VERIFY_TFLITE_BASE_NUMBER_H_

#include <bit>
#include <cstdint>
#include <string_view>

namespace verify_tflite {

// The numbers are those of TensorType in TFLite's schema.
enum class ElementType : uint8_t {
  kFloat32,
  kFloat16,
  kInt32,
  kUInt8,
  kInt64,
  kString,
  kBool,
  kInt16,
  kComplex64,
  kInt8,
  kFloat64,
  kComplex128,
  kUInt64,
  kResource,
  kVariant,
  kUInt32,
  kUInt16,
  kInt4,  // two to a byte, the low nibble first
  kBFloat16,
  kInt2,  // four to a byte, the lowest bits first
  kUInt4,
  kFloat8E4M3FN,
  kFloat8E5M2,
  kUnknown,
};

// Returns "FLOAT32", …; "unknown type" for kUnknown.
std::string_view NameOf(ElementType type);
// Returns the bits of one element, 0 for a type without a fixed size.
int BitsOf(ElementType type);

// Widens IEEE 754 binary16: exact for every number, NaNs stay NaNs. The
// exponent of binary16 is biased by 15, that of binary32 by 127: shifted into
// place as binary32, a number (also a subnormal one) is too small by 2^112, and
// a product mends that. Infinity and NaN have exponent 31, which becomes 255.
inline float HalfToFloat(uint16_t half) {
  const uint32_t small = (half & 0x7fffu) << 13;
  uint32_t bits =
      std::bit_cast<uint32_t>(std::bit_cast<float>(small) * 0x1p112f);
  if ((half & 0x7c00u) == 0x7c00u) bits = small | 0x7f800000u;
  return std::bit_cast<float>(bits | (half & 0x8000u) << 16);
}

// Widens bfloat16, which is the upper half of binary32.
inline float BFloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_NUMBER_H_
