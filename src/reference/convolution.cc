// SPDX-License-Identifier: Apache-2.0
#include "reference/convolution.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace verify_tflite {

ConvNumbers ReadConvolution(const WeightReader& reader,
                            const ModelConfig& config,
                            const LayerWeights& layer) {
  const int64_t size = config.hidden_size;
  const int64_t taps = config.conv_taps;
  at::Tensor stored = at::empty({size, taps}, at::kFloat);
  reader.ReadFloats(*layer.conv_taps, 0, size * taps,
                    stored.mutable_data_ptr<float>());
  ConvNumbers numbers{stored.t().contiguous(), {}};
  if (layer.conv_bias != nullptr) {
    numbers.bias = at::empty({size}, at::kFloat);
    reader.ReadFloats(*layer.conv_bias, 0, size,
                      numbers.bias.mutable_data_ptr<float>());
  }
  return numbers;
}

at::Tensor Convolve(const ConvNumbers& numbers, const Span& span,
                    const LayerCache& cache) {
  const int64_t taps = numbers.taps.size(0);
  const int64_t size = numbers.taps.size(1);
  const int64_t before = taps - 1;
  const int64_t begin = span.sequence->length;
  const int64_t kept = std::min(before, begin);
  at::Tensor input = at::zeros({before + span.count, size}, at::kFloat);
  input.narrow(0, before - kept, kept + span.count)
      .copy_(cache.keys[0].narrow(0, begin - kept, kept + span.count));
  at::Tensor output = input.narrow(0, 0, span.count) * numbers.taps[0];
  for (int64_t i = 1; i < taps; ++i) {
    output.add_(input.narrow(0, i, span.count) * numbers.taps[i]);
  }
  if (numbers.bias.defined()) output.add_(numbers.bias);
  return output;
}

}  // namespace verify_tflite
