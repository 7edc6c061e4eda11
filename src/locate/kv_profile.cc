#include "locate/kv_profile.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/error.h"

namespace verify_tflite {
namespace {

// What `found` and `expected` both hold of `positions`.
HeadsAgreement Compare(const CachedHeads& expected, const KvRows& found,
                       const std::vector<float>& found_values, int64_t layer,
                       PositionRange positions) {
  if (found.heads != expected.heads || found.head_dim != expected.head_dim) {
    throw Error(
        "layer {}: the converted model's KV cache has {} heads of {}, the "
        "checkpoint {} of {}",
        layer, found.heads, found.head_dim, expected.heads, expected.head_dim);
  }
  const int64_t width = found.heads * found.head_dim;
  const auto rows = [&](const std::vector<float>& values, int64_t first) {
    return std::span(values).subspan(
        static_cast<size_t>((positions.begin - first) * width),
        static_cast<size_t>((positions.end - positions.begin) * width));
  };
  return MeasureHeads(rows(expected.values, 0), rows(found_values, found.first),
                      found.heads, found.head_dim);
}

LayerKv CompareLayer(const KvRows& found, const Sequence& sequence,
                     int64_t layer, PositionRange range) {
  LayerKv result;
  result.positions.begin = std::max(range.begin, found.first);
  result.positions.end = std::max(result.positions.begin, range.end);
  if (result.positions.begin == result.positions.end) return result;
  result.keys =
      Compare(sequence.Keys(layer), found, found.keys, layer, result.positions);
  result.values = Compare(sequence.Values(layer), found, found.values, layer,
                          result.positions);
  return result;
}

}  // namespace

KvProfile ProfileKv(Session& session, KvCache& kv, const Sequence& sequence,
                    PositionRange range) {
  const int64_t fed = std::min(kv.length(), sequence.length());
  if (range.begin < 0 || range.end < range.begin || range.end > fed) {
    throw Error(
        "cannot compare KV caches of positions {} to {}: the models were fed "
        "{} and {} tokens",
        range.begin, range.end, kv.length(), sequence.length());
  }
  if (session.num_layers() != sequence.num_layers()) {
    throw Error("the converted model has {} layers, the checkpoint {}",
                session.num_layers(), sequence.num_layers());
  }
  KvProfile profile;
  for (int64_t layer = 0; layer < sequence.num_layers(); ++layer) {
    profile.layers.push_back(
        CompareLayer(session.ReadKv(kv, layer), sequence, layer, range));
  }
  return profile;
}

}  // namespace verify_tflite
