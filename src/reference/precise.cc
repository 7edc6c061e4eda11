// SPDX-License-Identifier: Apache-2.0
// Single rows of products, in float64.
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "reference/decoder.h"
#include "reference/linear.h"
#include "reference/reference.h"

namespace verify_tflite {
namespace {

// Weights read at once.
constexpr int64_t kBlockFloats = 1 << 18;

Reference::PreciseRow RotatePrecisely(const Rotation& rotation,
                                      std::span<const float> x) {
  Reference::PreciseRow result;
  result.values.assign(x.begin(), x.end());
  rotation.Multiply(result.values);
  const auto size = static_cast<size_t>(rotation.size());
  for (size_t begin = 0; begin < x.size(); begin += size) {
    double sum = 0;
    for (size_t i = begin; i < begin + size; ++i)
      sum += std::fabs(double{x[i]});
    result.magnitudes.resize(begin + size, rotation.magnitude() * sum);
  }
  return result;
}

// The input of a product as its operator reads it.
struct ReadInput {
  std::vector<float> values;
  double scale = 1;  // of the product with them
};

ReadInput InputOf(const Linear& linear, std::span<const float> x,
                  bool is_rotated) {
  ReadInput input;
  input.values.assign(x.begin(), x.end());
  if (linear.input_scale != nullptr && !is_rotated) {
    ScaleRows(*linear.input_scale, input.values);
  }
  if (linear.rotation != nullptr && !is_rotated) {
    RotateRows(*linear.rotation, input.values);
  }
  if (linear.quantised_input) {
    QuantisedRows rows = QuantiseRows({input.values.data(), 1}, std::ssize(x));
    input.values = std::move(rows.values);
    input.scale = 1 / double{rows.k[0]};
  }
  return input;
}

// Of either sign and from 1/2 to 3/2, times what makes its square 1 on average;
// by SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
double FactorOf(uint64_t seed, int probe, int64_t output) {
  uint64_t x = seed + 0x9E3779B97F4A7C15 *
                          (static_cast<uint64_t>(output) * Reference::kProbes +
                           static_cast<uint64_t>(probe) + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  x ^= x >> 31;
  const double size = 0.5 + static_cast<double>(x >> 11) * 0x1p-53;
  return ((x & 1) != 0 ? size : -size) * std::sqrt(12.0 / 13.0);
}

const ProbeVectors& ProbeOf(const Linear& linear, Decoder& decoder) {
  constexpr int kProbes = Reference::kProbes;
  ProbeVectors& probe = decoder.probe;
  if (probe.weight == linear.weight) return probe;
  const int64_t outputs = linear.weight->shape[0];
  const int64_t inputs = linear.weight->shape[1];
  for (auto& vector : probe.inputs) {
    vector.assign(static_cast<size_t>(inputs), 0.0);
  }
  probe.bias = {};
  std::vector<float> bias(static_cast<size_t>(outputs), 0.0f);
  if (linear.bias != nullptr) {
    decoder.reader.ReadFloats(*linear.bias, 0, outputs, bias.data());
  }
  std::mutex adding;
  const int64_t block = std::max<int64_t>(kBlockFloats / inputs, 1);
  at::parallel_for(0, outputs, block, [&](int64_t begin, int64_t end) {
    std::array<std::vector<double>, kProbes> sums;
    for (auto& vector : sums) vector.assign(static_cast<size_t>(inputs), 0.0);
    std::vector<float> rows;
    for (int64_t first = begin; first < end; first += block) {
      const int64_t count = std::min(block, end - first);
      rows.resize(static_cast<size_t>(count * inputs));
      decoder.reader.ReadFloats(*linear.weight, first * inputs, count * inputs,
                                rows.data());
      for (int64_t i = 0; i < count; ++i) {
        const float* row = rows.data() + i * inputs;
        for (int p = 0; p < kProbes; ++p) {
          const double factor =
              FactorOf(decoder.options.probe_seed, p, first + i);
          double* sum = sums[static_cast<size_t>(p)].data();
          for (int64_t j = 0; j < inputs; ++j) sum[j] += factor * row[j];
        }
      }
    }
    const std::lock_guard lock(adding);
    for (size_t p = 0; p < kProbes; ++p) {
      for (size_t j = 0; j < sums[p].size(); ++j) {
        probe.inputs[p][j] += sums[p][j];
      }
    }
  });
  for (int p = 0; p < kProbes; ++p) {
    for (int64_t i = 0; i < outputs; ++i) {
      probe.bias[static_cast<size_t>(p)] +=
          FactorOf(decoder.options.probe_seed, p, i) *
          bias[static_cast<size_t>(i)];
    }
  }
  probe.weight = linear.weight;
  return probe;
}

}  // namespace

Reference::PreciseRow Reference::Multiply(Stage stage, int64_t layer,
                                          std::span<const float> x,
                                          bool is_rotated,
                                          int64_t expert) const {
  const Linear* linear = LinearOf(decoder_->weights, stage, layer, expert);
  if (linear == nullptr || linear->weight == nullptr) {
    throw Error("layer {} has no {} of its own", layer, NameOf(stage));
  }
  const int64_t outputs = linear->weight->shape[0];
  const int64_t inputs = linear->weight->shape[1];
  if (std::ssize(x) != inputs) {
    throw Error("{} takes {} numbers, not {}", NameOf(stage), inputs, x.size());
  }
  if (UnrotatedOf(stage)) {
    if (linear->rotation == nullptr) {
      throw Error("layer {} has no {}", layer, NameOf(stage));
    }
    std::vector<float> scaled(x.begin(), x.end());
    if (linear->input_scale != nullptr) ScaleRows(*linear->input_scale, scaled);
    return RotatePrecisely(*linear->rotation, scaled);
  }
  const auto [values, scale] = InputOf(*linear, x, is_rotated);
  PreciseRow result;
  std::vector<float> bias(static_cast<size_t>(outputs), 0.0f);
  if (linear->bias != nullptr) {
    decoder_->reader.ReadFloats(*linear->bias, 0, outputs, bias.data());
  }
  const int64_t block = std::max<int64_t>(kBlockFloats / inputs, 1);
  std::vector<float> weights;
  for (int64_t begin = 0; begin < outputs; begin += block) {
    const int64_t count = std::min(block, outputs - begin);
    weights.resize(static_cast<size_t>(count * inputs));
    decoder_->reader.ReadFloats(*linear->weight, begin * inputs, count * inputs,
                                weights.data());
    for (int64_t i = 0; i < count; ++i) {
      const float* row = weights.data() + i * inputs;
      double sum = 0;
      double magnitude = 0;
      for (int64_t j = 0; j < inputs; ++j) {
        const double term = double{row[j]} * values[static_cast<size_t>(j)];
        sum += term;
        magnitude += std::fabs(term);
      }
      const double offset = bias[static_cast<size_t>(begin + i)];
      result.values.push_back(sum * scale + offset);
      result.magnitudes.push_back(magnitude * scale + std::fabs(offset));
    }
  }
  return result;
}

double Reference::Probe(Stage stage, int64_t layer, std::span<const float> x,
                        bool is_rotated, std::span<const float> found,
                        int64_t expert) const {
  const Linear* linear = LinearOf(decoder_->weights, stage, layer, expert);
  if (linear == nullptr || linear->weight == nullptr || UnrotatedOf(stage)) {
    throw Error("layer {} has no {} of its own", layer, NameOf(stage));
  }
  const int64_t inputs = linear->weight->shape[1];
  if (std::ssize(x) != inputs ||
      std::ssize(found) != linear->weight->shape[0]) {
    throw Error("{} makes {} of {} numbers, not {} of {}", NameOf(stage),
                linear->weight->shape[0], inputs, found.size(), x.size());
  }
  const auto [values, scale] = InputOf(*linear, x, is_rotated);
  const ProbeVectors& vectors = ProbeOf(*linear, *decoder_);
  double squares = 0;
  for (int p = 0; p < kProbes; ++p) {
    const auto index = static_cast<size_t>(p);
    double expected = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      expected += vectors.inputs[index][i] * values[i];
    }
    double sum = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      sum +=
          FactorOf(decoder_->options.probe_seed, p, static_cast<int64_t>(i)) *
          found[i];
    }
    const double d = sum - (expected * scale + vectors.bias[index]);
    squares += d * d;
  }
  if (squares == 0) return 0;
  double size = 0;
  for (const float value : found) size += double{value} * value;
  const double error = std::sqrt(squares / kProbes / size);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

}  // namespace verify_tflite
