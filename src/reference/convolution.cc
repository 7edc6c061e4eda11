// SPDX-License-Identifier: Apache-2.0
#include "reference/convolution.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

namespace verify_tflite {

ConvNumbers ReadConvolution(const WeightReader& reader,
                            const ModelConfig& config,
                            const LayerWeights& layer) {
  const int64_t size = config.hidden_size;
  const int64_t taps = config.conv_taps;
  at::Tensor stored = at::empty({size, taps}, at::kFloat);
  reader.ReadFloats(*layer.conv_taps, 0, size * taps,
                    stored.mutable_data_ptr<float>());
  ConvNumbers numbers{stored.t().contiguous(), {}, layer.conv_quantised_input};
  if (layer.conv_bias != nullptr) {
    numbers.bias = at::empty({size}, at::kFloat);
    reader.ReadFloats(*layer.conv_bias, 0, size,
                      numbers.bias.mutable_data_ptr<float>());
  }
  return numbers;
}

namespace {

// What `span` and `before` positions before it hold, [before + rows, size].
at::Tensor InputOf(int64_t before, const Span& span, const LayerCache& cache) {
  const int64_t size = cache.keys.size(2);
  const int64_t begin = span.sequence->length;
  const int64_t kept = std::min(before, begin);
  at::Tensor input = at::zeros({before + span.count, size}, at::kFloat);
  input.narrow(0, before - kept, kept + span.count)
      .copy_(cache.keys[0].narrow(0, begin - kept, kept + span.count));
  return input;
}

// Numbers as tflite's hybrid DEPTHWISE_CONV_2D quantises them, and back
// (AsymmetricQuantizeFloats of tflite/kernels/internal): one scale for all.
void QuantiseTogether(const at::Tensor& values) {
  constexpr double kLeast = -128, kMost = 127;
  float* const data = values.mutable_data_ptr<float>();
  const int64_t count = values.numel();
  const auto [least, most] = std::minmax_element(data, data + count);
  const double low = std::min(0.0f, *least), high = std::max(0.0f, *most);
  if (low == high) return;
  const double scale = (high - low) / (kMost - kLeast);
  const double from_low = kLeast - low / scale;
  const double from_high = kMost - high / scale;
  const bool low_is_nearer = std::abs(kLeast) + std::abs(low / scale) <
                             std::abs(kMost) + std::abs(high / scale);
  const double zero = std::clamp(
      std::round(low_is_nearer ? from_low : from_high), kLeast, kMost);
  const auto rounded = static_cast<float>(scale);
  const float inverse = 1.0f / rounded;
  const auto offset = static_cast<float>(zero);
  for (int64_t i = 0; i < count; ++i) {
    const float code =
        std::clamp(std::round(offset + data[i] * inverse),
                   static_cast<float>(kLeast), static_cast<float>(kMost));
    data[i] = (code - offset) * rounded;
  }
}

}  // namespace

at::Tensor ConvStates(int64_t before, const Span& span,
                      const LayerCache& cache) {
  const at::Tensor input = InputOf(before, span, cache);
  const int64_t size = input.size(1);
  at::Tensor states = at::empty({span.count, before * size}, at::kFloat);
  for (int64_t i = 0; i < before; ++i) {
    states.narrow(1, i * size, size).copy_(input.narrow(0, i + 1, span.count));
  }
  return states;
}

at::Tensor Convolve(const ConvNumbers& numbers, const Span& span,
                    const LayerCache& cache) {
  const int64_t taps = numbers.taps.size(0);
  const at::Tensor input = InputOf(taps - 1, span, cache);
  if (numbers.quantised_input) QuantiseTogether(input);
  at::Tensor output = input.narrow(0, 0, span.count) * numbers.taps[0];
  for (int64_t i = 1; i < taps; ++i) {
    output.add_(input.narrow(0, i, span.count) * numbers.taps[i]);
  }
  if (numbers.bias.defined()) output.add_(numbers.bias);
  return output;
}

}  // namespace verify_tflite
