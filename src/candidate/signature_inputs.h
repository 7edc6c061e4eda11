// What goes into the inputs of a signature besides the KV caches.
#ifndef VERIFY_TFLITE_CANDIDATE_SIGNATURE_INPUTS_H_
#define VERIFY_TFLITE_CANDIDATE_SIGNATURE_INPUTS_H_

#include <cstdint>
#include <limits>
#include <span>

namespace verify_tflite {

// `tokens` (not more than fit), then pads: token 0.
void FillTokens(std::span<int32_t> input, std::span<const int32_t> tokens);

// begin, begin + 1, …, for pads too: converters that write the KV cache by
// position would let a pad at position 0 overwrite the first token.
void FillPositions(std::span<int32_t> input, int64_t begin);

// What LiteRT-LM adds to the score of a blocked position
// (litert_compiled_model_executor_utils.cc): a sum with a score stays finite.
constexpr float kBlocked = -0.7f * std::numeric_limits<float>::max();

// Fills mask [rows, kv_length], row i for position begin + i: that position
// and those before it are attended. Rows of pads are filled alike; a row that
// blocks everything would give NaN in the softmax of some kernels.
void FillCausalMask(std::span<float> mask, int64_t kv_length, int64_t begin);
// The same with 1 (attended) and 0 (blocked), as the bytes of a BOOL tensor.
void FillCausalMask(std::span<uint8_t> mask, int64_t kv_length, int64_t begin);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_SIGNATURE_INPUTS_H_
