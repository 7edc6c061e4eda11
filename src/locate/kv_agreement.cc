#include "locate/kv_agreement.h"

#include <algorithm>
#include <span>

#include "base/error.h"

namespace verify_tflite {
namespace {

void CheckShape(const KvRows& rows, const ModelConfig& config, int64_t layer) {
  const int64_t heads = config.layers[static_cast<size_t>(layer)].num_kv_heads;
  if (rows.heads == heads && rows.head_dim == config.head_dim) return;
  throw Error(
      "layer {}: the converted model's KV cache has {} heads of {}, the "
      "checkpoint {} of {}",
      layer, rows.heads, rows.head_dim, heads, config.head_dim);
}

LayerAgreement CompareLayer(const KvRows& rows, const Sequence& sequence,
                            int64_t layer, PositionRange range) {
  LayerAgreement result;
  result.positions.begin = std::max(range.begin, rows.first);
  result.positions.end = std::max(result.positions.begin, range.end);
  const int64_t width = rows.heads * rows.head_dim;
  const auto count = static_cast<size_t>(
      (result.positions.end - result.positions.begin) * width);
  const auto compare = [&](const std::vector<float>& reference,
                           const std::vector<float>& candidate) {
    const int64_t begin = result.positions.begin;
    return MeasureHeads(
        std::span(reference).subspan(static_cast<size_t>(begin * width), count),
        std::span(candidate).subspan(
            static_cast<size_t>((begin - rows.first) * width), count),
        rows.heads, rows.head_dim);
  };
  if (count == 0) return result;
  result.keys = compare(sequence.Keys(layer), rows.keys);
  result.values = compare(sequence.Values(layer), rows.values);
  return result;
}

}  // namespace

KvAgreement CompareKv(Session& session, KvCache& kv, const Sequence& sequence,
                      const ModelConfig& config, PositionRange range) {
  const int64_t fed = std::min(kv.length(), sequence.length());
  if (range.begin < 0 || range.end < range.begin || range.end > fed) {
    throw Error(
        "cannot compare KV caches of positions {} to {}: the models were fed "
        "{} and {} tokens",
        range.begin, range.end, kv.length(), sequence.length());
  }
  if (session.num_layers() != config.num_layers) {
    throw Error("the converted model has {} layers, the checkpoint {}",
                session.num_layers(), config.num_layers);
  }
  KvAgreement profile;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const KvRows rows = session.ReadKv(kv, layer);
    CheckShape(rows, config, layer);
    profile.layers.push_back(CompareLayer(rows, sequence, layer, range));
  }
  return profile;
}

}  // namespace verify_tflite
