// Caches, heads or slots in another's place, compared directly.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "verify/causes/causes.h"

namespace verify_tflite {
namespace {

std::optional<Finding> LookAtHeads(const Evidence& evidence, const RunView& run,
                                   size_t layer) {
  const KvRows& rows = (*run.rows)[layer];
  const ReferenceLayer& r = evidence.probes.reference[layer];
  const auto width = static_cast<size_t>(rows.heads * rows.head_dim);
  const auto head_of = [&](const std::vector<float>& from, size_t head,
                           size_t row_width) {
    std::vector<float> result;
    for (int64_t p = 0; p < rows.length; ++p) {
      const auto at = from.begin() +
                      static_cast<int64_t>(static_cast<size_t>(p) * row_width +
                                           head * rows.head_dim);
      result.insert(result.end(), at, at + rows.head_dim);
    }
    return result;
  };
  const size_t query_width =
      r.queries.size() / std::max<size_t>(1, r.keys.size() / width);
  for (size_t head = 0; head < static_cast<size_t>(rows.heads); ++head) {
    const std::vector<float> value = head_of(rows.values, head, width);
    const std::vector<float> key = head_of(rows.keys, head, width);
    for (size_t other = 0; other < static_cast<size_t>(rows.heads); ++other) {
      if (other == head) continue;
      if (Nmse(head_of(r.values, other, width), value) >
          evidence.NoiseAt(layer)) {
        continue;
      }
      return MakeFinding({.id = FindingId::kKvLayout,
                          .evidence = fmt::format(
                              "Layer {}: the values in KV head {} are those of "
                              "PyTorch's head {}.",
                              layer, head, other)});
    }
    for (size_t q = 0; q * rows.head_dim < query_width; ++q) {
      if (Nmse(head_of(r.queries, q, query_width), key) >
          evidence.NoiseAt(layer)) {
        continue;
      }
      return MakeFinding(
          {.id = FindingId::kQkSwapped,
           .evidence = fmt::format(
               "Layer {}: the keys in KV head {} are PyTorch's queries "
               "of head {}.",
               layer, head, q)});
    }
  }
  return std::nullopt;
}

std::optional<Finding> LookAtPlaces(const Evidence& evidence,
                                    const RunView& run) {
  const auto layer = run.FirstWrong();
  if (!layer) return std::nullopt;
  const KvRows& rows = (*run.rows)[*layer];
  const ReferenceLayer& r = evidence.probes.reference[*layer];
  if (rows.first > 0 || rows.length < 2) return std::nullopt;
  const auto width = static_cast<size_t>(rows.heads * rows.head_dim);
  const size_t size = static_cast<size_t>(rows.length) * width;
  const std::span<const float> keys(rows.keys);
  const std::span<const float> values(rows.values);
  if (Nmse(std::span(r.keys_before_rope).first(size), values) <=
      evidence.NoiseAt(*layer)) {
    return MakeFinding(
        {.id = FindingId::kKvSwapped,
         .evidence =
             fmt::format("Layer {}: the values are PyTorch's keys.", *layer)});
  }
  const size_t less = size - width;
  for (const bool high : {false, true}) {
    const auto mine = high ? keys.subspan(width) : keys.first(less);
    const auto theirs = high ? std::span(r.keys).first(less)
                             : std::span(r.keys).subspan(width, less);
    if (Nmse(theirs, mine) > evidence.NoiseAt(*layer)) continue;
    return MakeFinding(
        {.id = FindingId::kKvUpdate,
         .evidence =
             fmt::format("Layer {}: the key in slot p is that of token p {} 1.",
                         *layer, high ? "-" : "+"),
         .sentence =
             fmt::format("{} writes keys one slot too {} into the KV cache.",
                         run.name, high ? "high" : "low")});
  }
  return LookAtHeads(evidence, run, *layer);
}

}  // namespace

Explanation ExplainByDecodePlaces(const Evidence& evidence) {
  return {LookAtPlaces(evidence, evidence.decode)};
}

Explanation ExplainByPrefillPlaces(const Evidence& evidence) {
  return {LookAtPlaces(evidence, evidence.prefill)};
}

}  // namespace verify_tflite
