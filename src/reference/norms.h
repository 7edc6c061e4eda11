// SPDX-License-Identifier: Apache-2.0
// RMSNorm and LayerNorm.
#ifndef VERIFY_TFLITE_REFERENCE_NORMS_H_
#define VERIFY_TFLITE_REFERENCE_NORMS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "checkpoint/model_config.h"
#include "reference/weight_reader.h"
#include "reference/weights.h"

namespace verify_tflite {

// Rows below this are not worth another thread.
inline constexpr int64_t kRowGrain = 16;

// Returns uninitialised float32.
at::Tensor Floats(int64_t rows, int64_t columns);

// Returns `input`, [rows, size], normalised row by row as the config says;
// `input` itself where there is no such norm.
at::Tensor Norm(const WeightReader& reader, const ModelConfig& config,
                const at::Tensor& input, const NormWeights& norm);
// Returns `input`, [rows, size], divided row by row by its root mean square.
at::Tensor PlainNorm(const ModelConfig& config, const at::Tensor& input);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_NORMS_H_
