#include "candidate/signature_inputs.h"

#include <algorithm>
#include <numeric>

namespace verify_tflite {
namespace {

template <typename T>
void Fill(std::span<T> mask, int64_t kv_length, int64_t begin, T attended,
          T blocked) {
  const auto width = static_cast<size_t>(kv_length);
  auto count = static_cast<size_t>(begin) + 1;
  for (size_t row = 0; row + width <= mask.size(); row += width, ++count) {
    const auto out = mask.subspan(row, width);
    const size_t open = std::min(count, width);
    std::fill(out.begin(), out.begin() + open, attended);
    std::fill(out.begin() + open, out.end(), blocked);
  }
}

}  // namespace

void FillTokens(std::span<int32_t> input, std::span<const int32_t> tokens) {
  std::fill(std::copy(tokens.begin(), tokens.end(), input.begin()), input.end(),
            0);
}

void FillPositions(std::span<int32_t> input, int64_t begin) {
  std::iota(input.begin(), input.end(), static_cast<int32_t>(begin));
}

void FillCausalMask(std::span<float> mask, int64_t kv_length, int64_t begin) {
  Fill(mask, kv_length, begin, 0.0f, kBlocked);
}

void FillCausalMask(std::span<uint8_t> mask, int64_t kv_length, int64_t begin) {
  Fill<uint8_t>(mask, kv_length, begin, 1, 0);
}

}  // namespace verify_tflite
