// SPDX-License-Identifier: Apache-2.0
// Short convolutions over what a sequence keeps of a layer.
#ifndef VERIFY_TFLITE_REFERENCE_CONVOLUTION_H_
#define VERIFY_TFLITE_REFERENCE_CONVOLUTION_H_

#include <ATen/core/Tensor.h>

#include "checkpoint/model_config.h"
#include "reference/sequence.h"
#include "reference/weight_reader.h"
#include "reference/weights.h"

namespace verify_tflite {

// Of one layer, as they are applied.
struct ConvNumbers {
  at::Tensor
      taps;  // [conv_taps, hidden_size], the last of a row's own position
  at::Tensor bias;  // [hidden_size]; undefined where there is none
  // What is convolved is quantised first, all rows of a run together.
  bool quantised_input = false;
};
ConvNumbers ReadConvolution(const WeightReader& reader,
                            const ModelConfig& config,
                            const LayerWeights& layer);

// Returns the state behind each row of `span`, [rows, before * hidden_size]:
// what `cache` has of its position and of those before it, the oldest first.
// Before the first position are zeros.
at::Tensor ConvStates(int64_t before, const Span& span,
                      const LayerCache& cache);

// Returns the convolution of each row of `span`, [rows, hidden_size]: of its
// own position and those before it. Before the first position are zeros.
at::Tensor Convolve(const ConvNumbers& numbers, const Span& span,
                    const LayerCache& cache);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_CONVOLUTION_H_
