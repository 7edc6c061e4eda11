// Linear layers whose weights are streamed from the checkpoint.
#ifndef VERIFY_TFLITE_REFERENCE_LINEAR_H_
#define VERIFY_TFLITE_REFERENCE_LINEAR_H_

#include <cstdint>
#include <span>

#include "checkpoint/tensor.h"
#include "reference/weight_reader.h"

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

struct LinearInput {
  const float* x;  // [rows, inputs]
  int64_t rows;
};

// out = x W^T + b for several layers with the same input, in float32. Threads
// share the outputs in blocks of fixed size; each reads a block of weights into
// its own cache and multiplies it there, so that bits do not depend on the
// number of threads. Up to `max_dot_rows` rows by the kernels of kernels.h,
// beyond by ATen (MKL) from widened weights.
void RunLinear(const WeightReader& reader, const LinearInput& input,
               std::span<const LinearTask> tasks, int64_t max_dot_rows);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_LINEAR_H_
