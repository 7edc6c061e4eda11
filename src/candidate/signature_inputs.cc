#include "candidate/signature_inputs.h"

#include <algorithm>
#include <numeric>

namespace verify_tflite {
namespace {

// The elements with what attended and blocked positions hold.
QuantisedMask<float> Values(std::span<float> elements) {
  return {elements, 0.0f, kBlocked};
}
QuantisedMask<uint16_t> Values(std::span<uint16_t> elements) {
  return {elements, 0, kBlockedFloat16};
}
QuantisedMask<uint8_t> Values(std::span<uint8_t> elements) {
  return {elements, 1, 0};
}
template <typename T>
QuantisedMask<T> Values(const QuantisedMask<T>& mask) {
  return mask;
}

// Row i attends to columns [first(i), last(i)).
template <typename First, typename Last>
void FillRows(MaskInput mask, int64_t width, First first, Last last) {
  std::visit(
      [&](const auto& given) {
        const auto [elements, attended, blocked] = Values(given);
        const auto columns = static_cast<size_t>(width);
        for (size_t row = 0; (row + 1) * columns <= elements.size(); ++row) {
          const auto out = elements.subspan(row * columns, columns);
          const auto index = static_cast<int64_t>(row);
          const auto end =
              static_cast<size_t>(std::clamp<int64_t>(last(index), 0, width));
          const size_t begin = std::min(
              end,
              static_cast<size_t>(std::clamp<int64_t>(first(index), 0, width)));
          std::ranges::fill(out, blocked);
          std::ranges::fill(out.subspan(begin, end - begin), attended);
        }
      },
      mask);
}

template <typename Attended>
void FillEach(MaskInput mask, int64_t width, Attended is_attended) {
  std::visit(
      [&](const auto& given) {
        const auto [elements, attended, blocked] = Values(given);
        const auto size = static_cast<int64_t>(elements.size());
        for (int64_t i = 0; i < size; ++i) {
          elements[static_cast<size_t>(i)] =
              is_attended(i / width, i % width) ? attended : blocked;
        }
      },
      mask);
}

}  // namespace

void FillTokens(std::span<int32_t> input, std::span<const int32_t> tokens,
                int32_t pad) {
  std::fill(std::copy(tokens.begin(), tokens.end(), input.begin()), input.end(),
            pad);
}

void FillBatch(std::span<int32_t> input, int32_t token) {
  std::fill(input.begin(), input.end(), token);
}

void FillPositions(std::span<int32_t> input, int64_t begin) {
  std::iota(input.begin(), input.end(), static_cast<int32_t>(begin));
}

void FillRepeatedPositions(std::span<int32_t> input, int64_t begin,
                           int64_t count) {
  FillPositions(input, begin);
  std::ranges::fill(input.subspan(static_cast<size_t>(count)),
                    static_cast<int32_t>(begin + count - 1));
}

void FillParams(std::span<int32_t> input, int64_t begin, int64_t count) {
  std::fill(input.begin(), input.end(), 0);
  const auto end = static_cast<int32_t>(begin + count);
  const int32_t params[] = {static_cast<int32_t>(begin), end, end};
  std::copy_n(params, std::min(std::size(params), input.size()), input.begin());
}

void FillCausalMask(MaskInput mask, int64_t kv_length, int64_t begin) {
  FillRows(
      mask, kv_length, [](int64_t) { return 0; },
      [=](int64_t row) { return begin + row + 1; });
}

void FillWindowMask(MaskInput mask, int64_t kv_length, int64_t window,
                    int64_t begin) {
  FillRows(
      mask, kv_length, [=](int64_t row) { return begin + row + 1 - window; },
      [=](int64_t row) { return begin + row + 1; });
}

void FillRingPrefillMask(MaskInput mask, int64_t rows, int64_t ring,
                         int64_t window, int64_t begin) {
  FillEach(mask, ring + rows, [=](int64_t row, int64_t column) {
    const int64_t query = begin + row;
    if (column >= ring) {
      const int64_t key = begin + column - ring;
      return key <= query && key > query - window;
    }
    // The latest position before this chunk that fell into the slot.
    const int64_t last = begin - 1;
    const int64_t key = last - ((last - column) % ring + ring) % ring;
    return key >= 0 && key > query - window;
  });
}

void FillRingDecodeMask(MaskInput mask, int64_t ring, int64_t window,
                        int64_t position) {
  FillEach(mask, ring, [=](int64_t, int64_t slot) {
    const int64_t back = ((position - slot) % ring + ring) % ring;
    return back < window && back <= position;
  });
}

}  // namespace verify_tflite
