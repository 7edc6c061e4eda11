// SPDX-License-Identifier: Apache-2.0
#include "reference/norms.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/layer_norm.h>

#include <cmath>
#include <vector>

namespace verify_tflite {
namespace {

// LlamaRMSNorm.
at::Tensor RmsNorm(const at::Tensor& input, const std::vector<float>& scale,
                   double eps) {
  const int64_t size = input.size(1);
  at::Tensor output = Floats(input.size(0), size);
  const float* in = input.const_data_ptr<float>();
  float* out = output.mutable_data_ptr<float>();
  at::parallel_for(0, input.size(0), kRowGrain, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      const float* x = in + row * size;
      float* y = out + row * size;
      double squares = 0;
      for (int64_t i = 0; i < size; ++i) squares += double{x[i]} * x[i];
      const float factor = static_cast<float>(
          1 / std::sqrt(squares / static_cast<double>(size) + eps));
      for (int64_t i = 0; i < size; ++i) y[i] = scale[i] * (x[i] * factor);
    }
  });
  return output;
}

// nn.LayerNorm.
at::Tensor LayerNorm(const at::Tensor& input, const std::vector<float>& scale,
                     const std::vector<float>& bias, double eps) {
  const int64_t size = input.size(1);
  const auto as_tensor = [&](const std::vector<float>& values) {
    return at::from_blob(const_cast<float*>(values.data()), {size}, at::kFloat);
  };
  return at::layer_norm(input, {size}, as_tensor(scale), as_tensor(bias), eps);
}

}  // namespace

at::Tensor Floats(int64_t rows, int64_t columns) {
  return at::empty({rows, columns}, at::kFloat);
}

at::Tensor Norm(const WeightReader& reader, const ModelConfig& config,
                const at::Tensor& input, const NormWeights& norm) {
  if (!norm.exists()) return input;
  const int64_t size = input.size(1);
  const auto read = [&](const TensorView& from) {
    std::vector<float> values(size);
    reader.ReadFloats(from, 0, size, values.data());
    return values;
  };
  std::vector<float> scale =
      norm.unscaled ? std::vector<float>(size, 1) : read(*norm.weight);
  if (config.layer_norm) {
    return LayerNorm(
        input, scale,
        norm.bias == nullptr ? std::vector<float>(size) : read(*norm.bias),
        config.rms_norm_eps);
  }
  if (config.norm_adds_one && !norm.unscaled) {
    for (float& value : scale) value += 1;
  }
  return RmsNorm(input, scale, config.rms_norm_eps);
}

at::Tensor PlainNorm(const ModelConfig& config, const at::Tensor& input) {
  const std::vector<float> ones(static_cast<size_t>(input.size(1)), 1.0f);
  return RmsNorm(input, ones, config.rms_norm_eps);
}

}  // namespace verify_tflite
