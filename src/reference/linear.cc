#include "reference/linear.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <vector>

#include "reference/kernels.h"

namespace verify_tflite {
namespace {

// Up to here a product is bound by reading weights, and Dot beats widening
// followed by a matrix product (reference_benchmark.cc).
constexpr int64_t kMaxDotRows = 8;
// A widened block stays in the second-level cache.
constexpr int64_t kBlockFloats = 64 * 1024;

// Outputs [begin, end) of one task.
struct Block {
  const LinearTask* task;
  int64_t begin;
  int64_t end;
};

std::vector<Block> Split(std::span<const LinearTask> tasks) {
  std::vector<Block> blocks;
  for (const LinearTask& task : tasks) {
    const int64_t outputs = task.layer.weight->shape[0];
    const int64_t inputs = task.layer.weight->shape[1];
    constexpr int64_t kUnit = 16;
    const int64_t size =
        std::clamp(kBlockFloats / inputs / kUnit, int64_t{1}, int64_t{16}) *
        kUnit;
    for (int64_t begin = 0; begin < outputs; begin += size) {
      blocks.push_back({&task, begin, std::min(begin + size, outputs)});
    }
  }
  return blocks;
}

bool IsAligned(const std::byte* data) {
  return reinterpret_cast<uintptr_t>(data) % alignof(float) == 0;
}

// `count` weights as floats: in place when they are, else in `buffer`.
const float* AsFloats(DType dtype, const std::byte* data, int64_t count,
                      std::vector<float>& buffer) {
  if (dtype == DType::kF32 && IsAligned(data)) {
    return reinterpret_cast<const float*>(data);
  }
  buffer.resize(std::max(buffer.size(), static_cast<size_t>(count)));
  Widen(dtype, data, count, buffer.data());
  return buffer.data();
}

void Multiply(const float* weights, int64_t outputs, int64_t inputs,
              const float* x, int64_t rows, float* y, int64_t y_stride) {
  // from_blob takes no const, mm writes neither operand.
  const at::Tensor w =
      at::from_blob(const_cast<float*>(weights), {outputs, inputs}, at::kFloat);
  const at::Tensor in =
      at::from_blob(const_cast<float*>(x), {rows, inputs}, at::kFloat);
  at::Tensor out = at::from_blob(y, {rows, outputs}, {y_stride, 1}, at::kFloat);
  at::mm_out(out, in, w.t());
}

void AddBias(const TensorView& bias, const Block& block, int64_t rows,
             std::vector<float>& buffer) {
  const int64_t count = block.end - block.begin;
  const float* values =
      AsFloats(bias.dtype, bias.data.data() + block.begin * SizeOf(bias.dtype),
               count, buffer);
  const int64_t stride = bias.shape[0];
  for (int64_t row = 0; row < rows; ++row) {
    float* out = block.task->out + row * stride + block.begin;
    for (int64_t i = 0; i < count; ++i) out[i] += values[i];
  }
}

void RunBlock(const float* x, int64_t rows, const Block& block) {
  thread_local std::vector<float> buffer;
  const TensorView& weight = *block.task->layer.weight;
  const int64_t outputs = block.end - block.begin;
  const int64_t stride = weight.shape[0];
  const int64_t inputs = weight.shape[1];
  const std::byte* data =
      weight.data.data() + block.begin * inputs * SizeOf(weight.dtype);
  float* out = block.task->out + block.begin;
  if (rows <= kMaxDotRows) {
    Dot({weight.dtype, data, outputs, inputs, x, rows, out, stride});
  } else {
    const float* floats =
        AsFloats(weight.dtype, data, outputs * inputs, buffer);
    Multiply(floats, outputs, inputs, x, rows, out, stride);
  }
  if (const TensorView* bias = block.task->layer.bias) {
    AddBias(*bias, block, rows, buffer);
  }
}

}  // namespace

void RunLinear(const float* x, int64_t rows,
               std::span<const LinearTask> tasks) {
  const std::vector<Block> blocks = Split(tasks);
  at::parallel_for(0, static_cast<int64_t>(blocks.size()), 1,
                   [&](int64_t begin, int64_t end) {
                     const c10::InferenceMode no_autograd;  // per thread
                     for (int64_t i = begin; i < end; ++i) {
                       RunBlock(x, rows, blocks[i]);
                     }
                   });
}

}  // namespace verify_tflite
