// SPDX-License-Identifier: Apache-2.0
// Rotary position embeddings.
#ifndef VERIFY_TFLITE_REFERENCE_ROPE_H_
#define VERIFY_TFLITE_REFERENCE_ROPE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "checkpoint/model_config.h"

namespace verify_tflite {

// Frequencies by which the elements of a head rotate, [rotary_dim / 2].
struct Frequencies {
  at::Tensor usual;
  at::Tensor long_sequence;  // with long_rope
  at::Tensor local;          // of layers with local_rope
};
Frequencies GetFrequencies(const ModelConfig& config);

// Cosines and sines of the angles of some positions.
struct RopeAngles {
  at::Tensor cos, sin;  // [rows, rotary_dim / 2]
};

// Rotates the first `size` elements of a head: element i pairs with i + size/2
// (rotate_half).
void Rotate(float* head, const float* cos, const float* sin, int64_t size);
// The same with pairs side by side: element 2 i and the next.
void RotateNeighbours(float* head, const float* cos, const float* sin,
                      int64_t size);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_ROPE_H_
