// SPDX-License-Identifier: Apache-2.0
#include "reference/sequence.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace verify_tflite {
namespace {

// A copy of `cache` with room for `capacity` positions.
at::Tensor Grow(const at::Tensor& cache, int64_t length, int64_t capacity) {
  at::Tensor grown =
      at::empty({cache.size(0), capacity, cache.size(2)}, at::kFloat);
  grown.narrow(1, 0, length).copy_(cache.narrow(1, 0, length));
  return grown;
}

}  // namespace

void SequenceState::Reserve(int64_t needed) {
  if (read_layer) return;
  const int64_t capacity = layers[0].keys.size(1);
  if (needed <= capacity) return;
  const int64_t larger = std::max(needed, capacity + capacity / 2);
  for (LayerCache& cache : layers) {
    cache.keys = Grow(cache.keys, length, larger);
    cache.values = Grow(cache.values, length, larger);
  }
}

Sequence::Sequence(std::unique_ptr<SequenceState> state)
    : state_(std::move(state)) {}
Sequence::~Sequence() = default;
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;

int64_t Sequence::length() const { return state_->length; }

void Sequence::Truncate(int64_t length) {
  if (length < 0 || length > state_->length) {
    throw Error("cannot truncate a sequence of {} tokens to {}", state_->length,
                length);
  }
  state_->length = length;
}

std::vector<float> SequenceState::Copy(at::Tensor LayerCache::*part,
                                       int64_t layer) const {
  if (layer < 0 || layer >= static_cast<int64_t>(layers.size())) {
    throw Error("no layer {}: the model has {}", layer, layers.size());
  }
  const c10::InferenceMode no_autograd;
  const at::Tensor rows =
      (layers[layer].*part).narrow(1, 0, length).transpose(0, 1).contiguous();
  const float* data = rows.const_data_ptr<float>();
  return {data, data + rows.numel()};
}

void SequenceState::SetLayer(int64_t layer, int64_t length,
                             std::span<const float> keys,
                             std::span<const float> values) {
  LayerCache& cache = layers.at(static_cast<size_t>(layer));
  const int64_t heads = cache.keys.size(0);
  const int64_t size = cache.keys.size(2);
  if (cache.values.size(2) == 0) return SetConvolved(cache, length, keys);
  if (length < 0 || std::ssize(keys) != length * heads * size ||
      keys.size() != values.size()) {
    throw Error(
        "layer {}: {} keys and {} values for {} positions of {} heads of {}",
        layer, keys.size(), values.size(), length, heads, size);
  }
  const auto set = [&](at::Tensor& part, std::span<const float> from) {
    part = at::empty({heads, length, size}, at::kFloat);
    part.copy_(at::from_blob(const_cast<float*>(from.data()),
                             {length, heads, size}, at::kFloat)
                   .transpose(0, 1));
  };
  set(cache.keys, keys);
  set(cache.values, values);
}

// The last positions are all that a convolution sees.
void SequenceState::SetConvolved(LayerCache& cache, int64_t length,
                                 std::span<const float> last) {
  const int64_t size = cache.keys.size(2);
  const int64_t given = std::ssize(last) / size;
  if (length < 0 || given * size != std::ssize(last)) {
    throw Error("{} numbers of what is convolved, {} of a position",
                last.size(), size);
  }
  const int64_t count = std::min(given, length);
  cache.keys = at::zeros({1, length, size}, at::kFloat);
  cache.keys.narrow(1, length - count, count)
      .copy_(at::from_blob(const_cast<float*>(last.data()), {1, given, size},
                           at::kFloat)
                 .narrow(1, given - count, count));
  cache.values = at::empty({1, length, 0}, at::kFloat);
}

void SequenceState::ReadLayer(int64_t layer, int64_t count) {
  std::vector<float> keys;
  std::vector<float> values;
  read_layer(layer, keys, values);
  SetLayer(layer, length, keys, values);
  LayerCache& cache = layers[static_cast<size_t>(layer)];
  cache.keys = Grow(cache.keys, length, length + count);
  cache.values = Grow(cache.values, length, length + count);
}

void SequenceState::ForgetLayer(int64_t layer) {
  LayerCache& cache = layers[static_cast<size_t>(layer)];
  cache.keys = cache.keys.narrow(1, 0, 0).clone();
  cache.values = cache.values.narrow(1, 0, 0).clone();
}

void Sequence::Restore(int64_t layer, int64_t length,
                       std::span<const float> keys,
                       std::span<const float> values) {
  const c10::InferenceMode no_autograd;
  state_->SetLayer(layer, length, keys, values);
  state_->length = length;
}

void Sequence::RestoreByLayer(int64_t length, ReadLayerFn read) {
  state_->read_layer = std::move(read);
  state_->length = length;
}

std::vector<float> Sequence::Keys(int64_t layer) const {
  return state_->Copy(&LayerCache::keys, layer);
}

std::vector<float> Sequence::Values(int64_t layer) const {
  return state_->Copy(&LayerCache::values, layer);
}

}  // namespace verify_tflite
