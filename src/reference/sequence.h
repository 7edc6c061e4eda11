// SPDX-License-Identifier: Apache-2.0
// What a Sequence holds.
#ifndef VERIFY_TFLITE_REFERENCE_SEQUENCE_H_
#define VERIFY_TFLITE_REFERENCE_SEQUENCE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "reference/reference.h"

namespace verify_tflite {

// Keys (rotated) and values of one layer, [kv_heads, capacity, head_dim]. With
// LayerConfig::conv, keys are what is convolved, and values have no elements.
struct LayerCache {
  at::Tensor keys;
  at::Tensor values;
};

struct SequenceState {
  const void* owner;  // the Reference's own
  int64_t length = 0;
  bool long_rope = false;  // keys were rotated by the long factors
  std::vector<LayerCache> layers;
  Sequence::ReadLayerFn read_layer;  // of RestoreByLayer, else empty

  // Makes room for `needed` positions, unless layers are read as they come.
  void Reserve(int64_t needed);
  void SetLayer(int64_t layer, int64_t length, std::span<const float> keys,
                std::span<const float> values);
  static void SetConvolved(LayerCache& cache, int64_t length,
                           std::span<const float> last);
  // Makes room for `count` tokens behind what it reads.
  void ReadLayer(int64_t layer, int64_t count);
  void ForgetLayer(int64_t layer);
  // Returns a copy, [length, kv_heads, head_dim].
  std::vector<float> Copy(at::Tensor LayerCache::*part, int64_t layer) const;
};

// One item of a pass, its tokens being `count` rows from `row` on.
struct Span {
  SequenceState* sequence;
  int64_t row;
  int64_t count;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_SEQUENCE_H_
