// SPDX-License-Identifier: Apache-2.0
// Attention over the KV caches of a sequence.
#ifndef VERIFY_TFLITE_REFERENCE_ATTENTION_H_
#define VERIFY_TFLITE_REFERENCE_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include "checkpoint/model_config.h"
#include "reference/alternative.h"
#include "reference/rope.h"
#include "reference/sequence.h"

namespace verify_tflite {

// Rotates the queries of `span` in place, heads of `size` numbers.
void RotateQueries(const RopeAngles& rotation, const Span& span, int64_t size,
                   const at::Tensor& queries);

// Writes keys, rotated on their way, and values of `span` to the cache. Tensors
// are [rows of the pass, heads * head_dim]; no `rotation`: a layer without
// RoPE.
void Store(const RopeAngles* rotation, const Span& span, const at::Tensor& keys,
           const at::Tensor& values, LayerCache& cache);

// Causal attention of `queries`, the rows of `span` alone, over its cache,
// written to `mixed`; with what `alternative` does otherwise, if it is not
// null. Query heads of a group share a key head: the group is the head
// dimension of ATen's operator and the key heads are its batch, so that keys
// need no copies.
void Attend(const ModelConfig& config, const Alternative* alternative,
            const LayerConfig& layer, const Span& span, const LayerCache& cache,
            const at::Tensor& queries, const at::Tensor& mixed);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_ATTENTION_H_
