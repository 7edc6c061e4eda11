// Linear layers whose weights are streamed from the mapped checkpoint.
#ifndef VERIFY_TFLITE_REFERENCE_LINEAR_H_
#define VERIFY_TFLITE_REFERENCE_LINEAR_H_

#include <cstdint>
#include <span>

#include "checkpoint/tensor.h"

namespace verify_tflite {

// nn.Linear: weight [outputs, inputs], bias [outputs] or none.
struct Linear {
  const TensorView* weight = nullptr;
  const TensorView* bias = nullptr;
};

struct LinearTask {
  Linear layer;
  float* out;  // [rows, outputs]
};

// out = x W^T + b for several layers with the same input x [rows, inputs], in
// float32. Threads share the outputs in blocks of fixed size: each widens a
// block of weights into its own cache and multiplies it there, so that bits do
// not depend on the number of threads.
void RunLinear(const float* x, int64_t rows, std::span<const LinearTask> tasks);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_LINEAR_H_
