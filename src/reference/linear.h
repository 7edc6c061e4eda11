// Linear layers whose weights are streamed from the checkpoint.
#ifndef VERIFY_TFLITE_REFERENCE_LINEAR_H_
#define VERIFY_TFLITE_REFERENCE_LINEAR_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/rotation.h"
#include "checkpoint/tensor.h"
#include "reference/weight_reader.h"

namespace verify_tflite {

// nn.Linear: weight [outputs, inputs], bias [outputs] or none.
struct Linear {
  const TensorView* weight = nullptr;
  const TensorView* bias = nullptr;
  // Inputs are rounded to int8 first, see QuantiseRows.
  bool quantised_input = false;
  // Not null: the layer's input is to be rotated, see RotateRows.
  const Rotation* rotation = nullptr;
  // Not null, [inputs]: the layer's input is to be scaled, see ScaleRows.
  const std::vector<float>* input_scale = nullptr;
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
//
// Layers with quantised_input are computed as LiteRT's dynamically quantised
// FULLY_CONNECTED (XNNPACK's qd8 kernels) is: x = (q - zero_point) / k, sums of
// w (q - zero_point), then the division by k. Of layers with a rotation or
// an input_scale, the input is what ScaleRows and then RotateRows made of it.
void RunLinear(const WeightReader& reader, const LinearInput& input,
               std::span<const LinearTask> tasks, int64_t max_dot_rows);

// x W^T, [input.rows, outputs], of weights in memory, [outputs, inputs]. One
// thread.
void Multiply(std::span<const float> weights, int64_t inputs,
              const LinearInput& input, float* out);

// Multiplies each row of `x` with `scale`, which is as long, in float32.
void ScaleRows(std::span<const float> scale, std::span<float> x);

// Multiplies each block of `x`, rows of whole blocks, with the rotation, in
// float64.
void RotateRows(const Rotation& rotation, std::span<float> x);

// x as int8 numbers and what they stand for: x[r][i] is about values[r][i] /
// k[r], where values are integers: q - zero_point with q in [-128, 127].
struct QuantisedRows {
  std::vector<float> values;  // [rows, inputs]
  std::vector<float> k;       // [rows]
};

// Each row on its own, asymmetric, over its range with 0 in it, in float32 as
// XNNPACK has it (xnn_f32_qd8_asymmetric_quantization_params).
QuantisedRows QuantiseRows(const LinearInput& input, int64_t inputs);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_LINEAR_H_
