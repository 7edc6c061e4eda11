// SPDX-License-Identifier: Apache-2.0
#include "reference/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace verify_tflite {
namespace {

// _compute_llama3_parameters of transformers' modeling_rope_utils.
at::Tensor ScaleLlama3(const at::Tensor& inv_freq,
                       const Llama3RopeScaling& scaling) {
  const double original =
      static_cast<double>(scaling.original_max_position_embeddings);
  const double low = scaling.low_freq_factor;
  const double high = scaling.high_freq_factor;
  const at::Tensor wavelength = inv_freq.reciprocal() * (2 * std::numbers::pi);
  const at::Tensor is_long = wavelength > original / low;
  const at::Tensor is_medium =
      (wavelength >= original / high).logical_and(is_long.logical_not());
  const at::Tensor smooth =
      (wavelength.reciprocal() * original - low) / (high - low);
  const at::Tensor scaled = inv_freq / scaling.factor;
  const at::Tensor smoothed =
      (1 - smooth) * inv_freq / scaling.factor + smooth * inv_freq;
  return at::where(is_medium, smoothed, at::where(is_long, scaled, inv_freq));
}

// Float32 operation by operation as transformers: the rounding of a frequency
// grows with the position.
at::Tensor Wavelengths(int64_t rotary_dim, double theta) {
  const at::Tensor exponents =
      at::arange(0, rotary_dim, 2, at::kFloat) / rotary_dim;
  return at::pow(at::Scalar(theta), exponents);
}
at::Tensor Wavelengths(const ModelConfig& config, double theta) {
  return Wavelengths(config.rotary_dim, theta);
}

at::Tensor LongRopeFrequencies(const ModelConfig& config,
                               const std::vector<double>& factors) {
  return (at::tensor(factors, at::kFloat) *
          Wavelengths(config, config.rope_theta))
      .reciprocal();
}

// _compute_yarn_parameters of transformers' modeling_rope_utils.
at::Tensor YarnFrequencies(const ModelConfig& config,
                           const YarnRopeScaling& scaling) {
  const auto dim = static_cast<double>(config.rotary_dim);
  const auto correction = [&](double rotations) {
    const double original =
        static_cast<double>(scaling.original_max_position_embeddings);
    return dim * std::log(original / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.rope_theta));
  };
  double low = correction(scaling.beta_fast);
  double high = correction(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  const at::Tensor ramp =
      ((at::arange(config.rotary_dim / 2, at::kFloat) - low) / (high - low))
          .clamp(0, 1);
  const at::Tensor kept = 1 - ramp;
  const at::Tensor wavelengths = Wavelengths(config, config.rope_theta);
  return (wavelengths * scaling.factor).reciprocal() * (1 - kept) +
         wavelengths.reciprocal() * kept;
}

}  // namespace

Frequencies GetFrequencies(const ModelConfig& config) {
  Frequencies result;
  if (config.long_rope) {
    result.usual = LongRopeFrequencies(config, config.long_rope->short_factor);
    result.long_sequence =
        LongRopeFrequencies(config, config.long_rope->long_factor);
    return result;
  }
  result.usual = Wavelengths(config, config.rope_theta).reciprocal();
  if (config.llama3_rope) {
    result.usual = ScaleLlama3(result.usual, *config.llama3_rope);
  } else if (config.yarn_rope) {
    result.usual = YarnFrequencies(config, *config.yarn_rope);
  } else if (config.rope_linear_factor != 1) {
    result.usual = result.usual / config.rope_linear_factor;
  }
  if (config.rotating_pairs > 0) {
    result.usual
        .narrow(0, config.rotating_pairs,
                result.usual.size(0) - config.rotating_pairs)
        .zero_();
  }
  if (config.local_rope_theta > 0) {
    const int64_t size = config.local_rotary_dim > 0 ? config.local_rotary_dim
                                                     : config.rotary_dim;
    result.local = Wavelengths(size, config.local_rope_theta).reciprocal();
  }
  return result;
}

void Rotate(float* head, const float* cos, const float* sin, int64_t size) {
  const int64_t half = size / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = b * cos[i] + a * sin[i];
  }
}

void RotateNeighbours(float* head, const float* cos, const float* sin,
                      int64_t size) {
  for (int64_t i = 0; i < size / 2; ++i) {
    const float a = head[2 * i];
    const float b = head[2 * i + 1];
    head[2 * i] = a * cos[i] - b * sin[i];
    head[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

}  // namespace verify_tflite
