#include "base/last_bits.h"

#include <bit>

namespace verify_tflite {
namespace {

constexpr uint32_t kSign = 0x80000000;
constexpr uint32_t kLargest = 0x7F7FFFFF;

float Neighbour(float x, bool away_from_zero) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t size = bits & ~kSign;
  if (size == 0 || size >= kLargest) return x;
  return std::bit_cast<float>(away_from_zero ? bits + 1 : bits - 1);
}

}  // namespace

void LastBits::Move(std::span<float> values) {
  for (float& value : values) value = Neighbour(value, Toss());
}

bool LastBits::Toss() {
  if (left_ == 0) {
    bits_ = chance_();
    left_ = 64;
  }
  --left_;
  const bool result = (bits_ & 1) != 0;
  bits_ >>= 1;
  return result;
}

}  // namespace verify_tflite
