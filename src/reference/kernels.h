// Inner loops over weights as a checkpoint stores them.
#ifndef VERIFY_TFLITE_REFERENCE_KERNELS_H_
#define VERIFY_TFLITE_REFERENCE_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "checkpoint/tensor.h"

namespace verify_tflite {

// `count` weights as float32. bf16 and f16 widen exactly, NaN and infinity
// included. `weights` need not be aligned.
void Widen(DType dtype, const std::byte* weights, int64_t count, float* out);

// A product with few rows, y[r][o] = x[r] . w[o], that reads each weight once
// and widens it in a register. Float32 multiply and add in several partial
// sums, so at least as accurate as a sum in order.
struct DotArgs {
  DType dtype;
  const std::byte* weights;  // [outputs, inputs], unaligned
  int64_t outputs;
  int64_t inputs;
  const float* x;  // [rows, inputs]
  int64_t rows;
  float* y;  // [rows, outputs] with `y_stride` between rows
  int64_t y_stride;
};
void Dot(const DotArgs& args);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_KERNELS_H_
