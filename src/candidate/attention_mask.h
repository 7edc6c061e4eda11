// The attention mask that some conversions take as an input.
#ifndef VERIFY_TFLITE_CANDIDATE_ATTENTION_MASK_H_
#define VERIFY_TFLITE_CANDIDATE_ATTENTION_MASK_H_

#include <cstdint>
#include <limits>
#include <span>

namespace verify_tflite {

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

#endif  // VERIFY_TFLITE_CANDIDATE_ATTENTION_MASK_H_
