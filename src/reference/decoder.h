// SPDX-License-Identifier: Apache-2.0
// What every pass of a Reference reads.
#ifndef VERIFY_TFLITE_REFERENCE_DECODER_H_
#define VERIFY_TFLITE_REFERENCE_DECODER_H_

#include <array>
#include <chrono>
#include <utility>
#include <vector>

#include "reference/reference.h"
#include "reference/rope.h"
#include "reference/weight_reader.h"
#include "reference/weights.h"

namespace verify_tflite {

// Adds the seconds it lives to `sum`, unless that is null.
class Timer {
 public:
  explicit Timer(double* sum) : sum_(sum) {}
  ~Timer() {
    if (sum_ == nullptr) return;
    const std::chrono::duration<double> time = Clock::now() - start_;
    *sum_ += time.count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  double* sum_;
  Clock::time_point start_ = Clock::now();
};

// What Reference::Probe has of a product: W^T r and b.r for each random vector
// r.
struct ProbeVectors {
  const TensorView* weight = nullptr;
  std::array<std::vector<double>, Reference::kProbes> inputs;
  std::array<double, Reference::kProbes> bias = {};
};

struct Decoder {
  Decoder(const Checkpoint& from, Reference::Options given)
      : checkpoint(from),
        config(from.config()),
        options(std::move(given)),
        weights(FindWeights(from, options.weights, options.quantise_inputs)),
        reader(from) {
    if (options.alternative) Apply(*options.alternative, config, weights);
    frequencies = GetFrequencies(config);
  }

  double* Time(double Reference::Times::*part) const {
    return options.times ? &(options.times->*part) : nullptr;
  }

  const Checkpoint& checkpoint;
  ModelConfig config;
  Reference::Options options;
  Weights weights;
  WeightReader reader;
  Frequencies frequencies;
  ProbeVectors probe;  // of the product that was probed last
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_DECODER_H_
