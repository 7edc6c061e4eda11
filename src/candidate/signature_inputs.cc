#include "candidate/signature_inputs.h"

#include <algorithm>
#include <numeric>

namespace verify_tflite {
namespace {

// What attended and blocked positions hold.
template <typename T>
struct MaskValues;
template <>
struct MaskValues<float> {
  static constexpr float kAttended = 0.0f;
  static constexpr float kNot = kBlocked;
};
template <>
struct MaskValues<uint16_t> {
  static constexpr uint16_t kAttended = 0;
  static constexpr uint16_t kNot = kBlockedFloat16;
};
template <>
struct MaskValues<uint8_t> {
  static constexpr uint8_t kAttended = 1;
  static constexpr uint8_t kNot = 0;
};

// Row i attends to columns [first(i), last(i)).
template <typename First, typename Last>
void FillRows(MaskInput mask, int64_t width, First first, Last last) {
  std::visit(
      [&]<typename T>(std::span<T> elements) {
        const auto columns = static_cast<size_t>(width);
        for (size_t row = 0; (row + 1) * columns <= elements.size(); ++row) {
          const auto out = elements.subspan(row * columns, columns);
          const auto index = static_cast<int64_t>(row);
          const auto end =
              static_cast<size_t>(std::clamp<int64_t>(last(index), 0, width));
          const size_t begin = std::min(
              end,
              static_cast<size_t>(std::clamp<int64_t>(first(index), 0, width)));
          std::ranges::fill(out, MaskValues<T>::kNot);
          std::ranges::fill(out.subspan(begin, end - begin),
                            MaskValues<T>::kAttended);
        }
      },
      mask);
}

template <typename Attended>
void FillEach(MaskInput mask, int64_t width, Attended attended) {
  std::visit(
      [&]<typename T>(std::span<T> elements) {
        const auto size = static_cast<int64_t>(elements.size());
        for (int64_t i = 0; i < size; ++i) {
          elements[i] = attended(i / width, i % width)
                            ? MaskValues<T>::kAttended
                            : MaskValues<T>::kNot;
        }
      },
      mask);
}

}  // namespace

void FillTokens(std::span<int32_t> input, std::span<const int32_t> tokens) {
  std::fill(std::copy(tokens.begin(), tokens.end(), input.begin()), input.end(),
            0);
}

void FillBatch(std::span<int32_t> input, int32_t token) {
  std::fill(input.begin(), input.end(), token);
}

void FillPositions(std::span<int32_t> input, int64_t begin) {
  std::iota(input.begin(), input.end(), static_cast<int32_t>(begin));
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
