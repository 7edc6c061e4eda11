#include "reference/linear.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

#include "reference/kernels.h"

namespace verify_tflite {
namespace {

// A block of weights and the rows it meets stay in the second-level cache.
constexpr int64_t kBlockWeights = 64 * 1024;
constexpr int64_t kInputFloats = 64 * 1024;

// Outputs [begin, end) of one task.
struct Block {
  const LinearTask* task;
  int64_t begin;
  int64_t end;
};

std::vector<Block> Split(std::span<const LinearTask> tasks) {
  constexpr int64_t kUnit = 16;
  std::vector<Block> blocks;
  for (const LinearTask& task : tasks) {
    const int64_t outputs = task.layer.weight->shape[0];
    const int64_t inputs = task.layer.weight->shape[1];
    const int64_t units =
        std::clamp<int64_t>(kBlockWeights / inputs / kUnit, 1, 16);
    for (int64_t begin = 0; begin < outputs; begin += units * kUnit) {
      blocks.push_back(
          {&task, begin, std::min(begin + units * kUnit, outputs)});
    }
  }
  return blocks;
}

// At least `size` elements that keep their place between blocks.
template <typename T>
T* Buffer(std::vector<T>& buffer, int64_t size) {
  buffer.resize(std::max(buffer.size(), static_cast<size_t>(size)));
  return buffer.data();
}

void MultiplyByDot(const DotArgs& whole) {
  DotArgs args = whole;
  const int64_t most =
      std::max<int64_t>(kInputFloats / args.inputs / 12, 1) * 12;
  for (int64_t row = 0; row < whole.rows; row += most) {
    args.x = whole.x + row * whole.inputs;
    args.y = whole.y + row * whole.y_stride;
    args.rows = std::min(most, whole.rows - row);
    AvailableKernels()[0].dot(args);
  }
}

void MultiplyByAten(const DotArgs& args) {
  thread_local std::vector<float> buffer;
  const float* weights = reinterpret_cast<const float*>(args.weights);
  if (args.dtype != DType::kF32) {
    const int64_t count = args.outputs * args.inputs;
    weights = Buffer(buffer, count);
    Widen(args.dtype, args.weights, count, buffer.data());
  }
  // from_blob takes no const; mm writes neither operand.
  const at::Tensor w = at::from_blob(const_cast<float*>(weights),
                                     {args.outputs, args.inputs}, at::kFloat);
  const at::Tensor x = at::from_blob(const_cast<float*>(args.x),
                                     {args.rows, args.inputs}, at::kFloat);
  at::Tensor y = at::from_blob(args.y, {args.rows, args.outputs},
                               {args.y_stride, 1}, at::kFloat);
  at::mm_out(y, x, w.t());
}

void AddBias(const WeightReader& reader, const TensorView& bias,
             const Block& block, int64_t rows) {
  thread_local std::vector<float> buffer;
  const int64_t count = block.end - block.begin;
  const float* values = Buffer(buffer, count);
  reader.ReadFloats(bias, block.begin, count, buffer.data());
  const int64_t stride = bias.shape[0];
  for (int64_t row = 0; row < rows; ++row) {
    float* out = block.task->out + row * stride + block.begin;
    for (int64_t i = 0; i < count; ++i) out[i] += values[i];
  }
}

void RunBlock(const WeightReader& reader, const LinearInput& input,
              const Block& block, int64_t max_dot_rows) {
  // Allocated by operator new and so aligned for F32, too.
  thread_local std::vector<std::byte> buffer;
  const TensorView& weight = *block.task->layer.weight;
  const int64_t inputs = weight.shape[1];
  const int64_t outputs = block.end - block.begin;
  std::byte* raw = Buffer(
      buffer, outputs * inputs * static_cast<int64_t>(SizeOf(weight.dtype)));
  reader.Read(weight, block.begin * inputs, outputs * inputs, raw);
  const DotArgs args = {.dtype = weight.dtype,
                        .weights = raw,
                        .outputs = outputs,
                        .inputs = inputs,
                        .x = input.x,
                        .rows = input.rows,
                        .y = block.task->out + block.begin,
                        .y_stride = weight.shape[0]};
  if (input.rows <= max_dot_rows) {
    MultiplyByDot(args);
  } else {
    MultiplyByAten(args);
  }
  if (const TensorView* bias = block.task->layer.bias) {
    AddBias(reader, *bias, block, input.rows);
  }
}

void RunBlocks(const WeightReader& reader, const LinearInput& input,
               std::span<const LinearTask> tasks, int64_t max_dot_rows) {
  const std::vector<Block> blocks = Split(tasks);
  // Threads take the next block when they are free: cores may differ in speed
  // or be busy with other programs.
  std::atomic<size_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    const c10::InferenceMode no_autograd;  // per thread
    for (size_t i = next++; i < blocks.size(); i = next++) {
      RunBlock(reader, input, blocks[i], max_dot_rows);
    }
  });
}

// k and zero point of one row. The zero point is the one of the two ends of the
// range that is rounded less, as XNNPACK chooses it.
std::pair<float, float> QuantisationOf(const float* x, int64_t count) {
  const auto [least, most] = std::minmax_element(x, x + count);
  const float low = std::min(*least, 0.0f);
  const float high = std::max(*most, 0.0f);
  if (low == high) return {1.0f, 0.0f};
  const float k = 255.0f / (high - low);
  const float at_low = -128.0f + low * k;
  const float at_high = 127.0f + high * k;
  const float zero_point =
      at_low + at_high > 0 ? -128.0f - low * k : 127.0f - high * k;
  return {k, std::nearbyint(std::clamp(zero_point, -128.0f, 127.0f))};
}

// Rows of `task` from sums of integers to what they stand for, and the bias.
void Rescale(const WeightReader& reader, const LinearTask& task,
             std::span<const float> k) {
  const int64_t outputs = task.layer.weight->shape[0];
  std::vector<float> bias(outputs, 0.0f);
  if (task.layer.bias != nullptr) {
    reader.ReadFloats(*task.layer.bias, 0, outputs, bias.data());
  }
  for (size_t row = 0; row < k.size(); ++row) {
    float* out = task.out + static_cast<int64_t>(row) * outputs;
    for (int64_t i = 0; i < outputs; ++i) out[i] = out[i] / k[row] + bias[i];
  }
}

}  // namespace

void Multiply(std::span<const float> weights, int64_t inputs,
              const LinearInput& input, float* out) {
  const int64_t outputs = std::ssize(weights) / inputs;
  MultiplyByDot({.dtype = DType::kF32,
                 .weights = std::as_bytes(weights).data(),
                 .outputs = outputs,
                 .inputs = inputs,
                 .x = input.x,
                 .rows = input.rows,
                 .y = out,
                 .y_stride = outputs});
}

void ScaleRows(std::span<const float> scale, std::span<float> x) {
  for (size_t begin = 0; begin + scale.size() <= x.size();
       begin += scale.size()) {
    for (size_t i = 0; i < scale.size(); ++i) x[begin + i] *= scale[i];
  }
}

void RotateRows(const Rotation& rotation, std::span<float> x) {
  std::vector<double> block(static_cast<size_t>(rotation.size()));
  for (size_t begin = 0; begin + block.size() <= x.size();
       begin += block.size()) {
    std::copy_n(x.begin() + begin, block.size(), block.begin());
    rotation.Multiply(block);
    std::transform(block.begin(), block.end(), x.begin() + begin,
                   [](double value) { return static_cast<float>(value); });
  }
}

QuantisedRows QuantiseRows(const LinearInput& input, int64_t inputs) {
  QuantisedRows result;
  result.values.resize(input.rows * inputs);
  for (int64_t row = 0; row < input.rows; ++row) {
    const float* x = input.x + row * inputs;
    float* out = result.values.data() + row * inputs;
    const auto [k, zero_point] = QuantisationOf(x, inputs);
    for (int64_t i = 0; i < inputs; ++i) {
      const float q = std::nearbyint(x[i] * k) + zero_point;
      out[i] = std::clamp(q, -128.0f, 127.0f) - zero_point;
    }
    result.k.push_back(k);
  }
  return result;
}

void RunLinear(const WeightReader& reader, const LinearInput& input,
               std::span<const LinearTask> tasks, int64_t max_dot_rows) {
  std::vector<LinearTask> plain;
  std::vector<LinearTask> quantised;
  for (const LinearTask& task : tasks) {
    (task.layer.quantised_input ? quantised : plain).push_back(task);
  }
  if (!plain.empty()) RunBlocks(reader, input, plain, max_dot_rows);
  if (quantised.empty()) return;
  const QuantisedRows rows =
      QuantiseRows(input, quantised[0].layer.weight->shape[1]);
  std::vector<LinearTask> sums = quantised;
  for (LinearTask& task : sums) task.layer.bias = nullptr;
  RunBlocks(reader, {rows.values.data(), input.rows}, sums, max_dot_rows);
  for (const LinearTask& task : quantised) Rescale(reader, task, rows.k);
}

}  // namespace verify_tflite
