// SPDX-License-Identifier: Apache-2.0
// What makes the MLP of some layers sparse.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "reference/stage.h"
#include "verify/causes/causes.h"

namespace verify_tflite {

Explanation ExplainBySparsity(const Evidence& evidence) {
  const std::vector<LayerConfig>& layers = evidence.config.layers;
  const auto is_sparse = [](const LayerConfig& layer) {
    return layer.sparsity > 0;
  };
  // Another activation would show in all layers.
  if (std::ranges::none_of(layers, is_sparse) ||
      std::ranges::all_of(layers, is_sparse) || evidence.input.faults.empty()) {
    return {};
  }
  std::set<int64_t> wrong;
  for (const StructureFault& fault : evidence.input.faults) {
    const auto layer = static_cast<size_t>(fault.layer);
    if (fault.stage != NameOf(Stage::kMlpInner) || layer >= layers.size() ||
        !is_sparse(layers[layer])) {
      return {};
    }
    wrong.insert(fault.layer);
  }
  return {MakeFinding({.id = FindingId::kActivationSparsity,
                       .severity = SeverityByCost(evidence),
                       .evidence = fmt::format("Layers that differ: {}. {}",
                                               fmt::join(wrong, ", "),
                                               DescribeFaults(evidence))})};
}

}  // namespace verify_tflite
