// What goes into the inputs of a signature besides the KV caches.
#ifndef VERIFY_TFLITE_CANDIDATE_SIGNATURE_INPUTS_H_
#define VERIFY_TFLITE_CANDIDATE_SIGNATURE_INPUTS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <variant>

#include "base/tensor_scale.h"

namespace verify_tflite {

// `tokens` (not more than fit), then pads.
void FillTokens(std::span<int32_t> input, std::span<const int32_t> tokens,
                int32_t pad = 0);

// The same token in every row of a decode batch.
void FillBatch(std::span<int32_t> input, int32_t token);

// begin, begin + 1, …, for pads too: converters that write the KV cache by
// position would let a pad at position 0 overwrite the first token.
void FillPositions(std::span<int32_t> input, int64_t begin);
// The same, but pads, behind the first `count`, repeat the last position.
void FillRepeatedPositions(std::span<int32_t> input, int64_t begin,
                           int64_t count);

// `param_tensor`: {begin, end, end, 0, …} for positions [begin, end), pads not
// counted, as LiteRT-LM's FillSingleBufferCacheParamTensor
// (litert_compiled_model_executor_utils.cc). Nothing for an empty input.
void FillParams(std::span<int32_t> input, int64_t begin, int64_t count);

// A mask of integers with a scale: what stands for 0 and, as near as the type
// can, for kBlocked.
template <typename T>
struct QuantisedMask {
  std::span<T> elements;
  T attended = 0;
  T blocked = 0;
};

// A mask's elements: FLOAT32 and FLOAT16 (as bits) are added to scores, 0 where
// attended; so are INT8 and INT16 with a scale; BOOL has 1 where attended.
// Empty for a model without mask.
using MaskInput =
    std::variant<std::span<float>, std::span<uint16_t>, std::span<uint8_t>,
                 QuantisedMask<int8_t>, QuantisedMask<int16_t>>;

// What LiteRT-LM adds to the score of a blocked position (InitializeAttention-
// Mask in the same file): a sum with a score stays finite.
constexpr float kBlocked = -0.7f * std::numeric_limits<float>::max();
constexpr uint16_t kBlockedFloat16 = 0xF998;  // -45824

// The integer that stands for `value`: the nearest that T holds, ties to even
// (QUANTIZE in tflite/kernels, and the quantiser's own rounding).
template <typename T>
T Quantise(double value, const TensorScale& scale) {
  const double code = std::nearbyint(value / static_cast<double>(scale.scale)) +
                      static_cast<double>(scale.zero_point);
  return static_cast<T>(std::clamp<double>(code, std::numeric_limits<T>::min(),
                                           std::numeric_limits<T>::max()));
}

template <typename T>
QuantisedMask<T> MaskOf(std::span<T> elements, const TensorScale& scale) {
  return {elements, Quantise<T>(0, scale), Quantise<T>(kBlocked, scale)};
}

// Fills mask [rows, kv_length], row i for position begin + i: that position
// and those before it are attended. Rows of pads are filled alike; a row that
// blocks everything would give NaN in the softmax of some kernels.
void FillCausalMask(MaskInput mask, int64_t kv_length, int64_t begin);

// The same, but only the last `window` positions are attended.
void FillWindowMask(MaskInput mask, int64_t kv_length, int64_t window,
                    int64_t begin);

// Masks of a KV cache that is a ring: position p lies in slot p % ring.
// Prefill's [rows, ring + rows] is for the slots as they were before this
// chunk, then for the chunk's own tokens; decode's [1, ring] for the slots with
// this token in its own. Attended are the last `window` positions, as in
// FillRingBufferPrefillAttentionMask and FillRingBufferDecodeAttentionMask of
// LiteRT-LM. Expects 0 < window <= ring.
void FillRingPrefillMask(MaskInput mask, int64_t rows, int64_t ring,
                         int64_t window, int64_t begin);
void FillRingDecodeMask(MaskInput mask, int64_t ring, int64_t window,
                        int64_t position);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_SIGNATURE_INPUTS_H_
