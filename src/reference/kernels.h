// Inner loops over weights as a checkpoint stores them.
#ifndef VERIFY_TFLITE_REFERENCE_KERNELS_H_
#define VERIFY_TFLITE_REFERENCE_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "checkpoint/tensor.h"

namespace verify_tflite {

// A matrix product y[r][o] = x[r] . w[o] that widens weights in registers.
// Float32 multiply and add in several partial sums, so at least as accurate as
// a sum in order. Bits do not depend on `rows` or `outputs`.
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

// The loops, compiled for one instruction set.
struct Kernels {
  std::string_view name;
  void (*widen)(DType dtype, const std::byte* weights, int64_t count,
                float* out);
  void (*dot)(const DotArgs& args);
  // Up to so many rows `dot` is faster than `widen` and a product by MKL, as
  // measured by reference_benchmark.
  int64_t max_dot_rows;
};

// What this processor can run, best first; never empty.
std::span<const Kernels> AvailableKernels();

// `count` weights as float32. bf16 and f16 widen exactly, NaN and infinity
// included; f64 is rounded to the nearest float32. `weights` need not be
// aligned.
inline void Widen(DType dtype, const std::byte* weights, int64_t count,
                  float* out) {
  AvailableKernels()[0].widen(dtype, weights, count, out);
}

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_KERNELS_H_
