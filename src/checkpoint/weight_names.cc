// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/weight_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace verify_tflite {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kBias = ".bias";
constexpr std::string_view kNumber = "{}";

// Other towers of a multimodal model, with layers of the same names.
constexpr std::string_view kOtherTowers[] = {"vision", "visual", "audio",
                                             "multi_modal"};

// Where the modules `inner` begin in `name`, from a module of their own on.
size_t FindModule(std::string_view name, std::string_view inner) {
  size_t at = name.find(inner);
  while (at != std::string_view::npos && at > 0 && name[at - 1] != '.') {
    at = name.find(inner, at + 1);
  }
  return at;
}

// The modules before the number of a layer; nothing where there is none.
std::string_view LayersOf(std::string_view pattern) {
  const size_t number = pattern.find(kNumber);
  return pattern.substr(0, number == std::string_view::npos ? 0 : number);
}

// The number of the layer that `module` is of by `pattern`, which has one;
// nothing where it is of another.
std::optional<int32_t> LayerOf(std::string_view module,
                               std::string_view pattern) {
  const std::string_view layers = LayersOf(pattern);
  const size_t at = FindModule(module, layers);
  if (at == std::string_view::npos) return std::nullopt;
  module.remove_prefix(at + layers.size());
  int32_t layer = -1;
  const auto [end, error] =
      std::from_chars(module.data(), module.data() + module.size(), layer);
  if (error != std::errc() || layer < 0) return std::nullopt;
  module.remove_prefix(static_cast<size_t>(end - module.data()));
  if (module != pattern.substr(layers.size() + kNumber.size())) {
    return std::nullopt;
  }
  return layer;
}

bool EndsWithModule(std::string_view name, std::string_view module) {
  if (!name.ends_with(module)) return false;
  name.remove_suffix(module.size());
  return name.empty() || name.ends_with('.');
}

}  // namespace

const PartName* WeightNames::Find(Part part) const {
  const auto found = std::ranges::find(parts_, part, &PartName::part);
  return found == parts_.end() ? nullptr : &*found;
}

std::string WeightNames::Of(const WeightRole& role) const {
  const std::string_view prefix =
      role.part == Part::kHead ? prefix_.head : prefix_.decoder;
  const std::string_view suffix = IsBare(role.part) ? std::string_view()
                                  : role.bias       ? kBias
                                                    : kWeight;
  return fmt::format(
      "{}{}{}", prefix,
      fmt::format(fmt::runtime(Find(role.part)->name), role.layer), suffix);
}

std::optional<WeightRole> WeightNames::RoleOf(std::string_view name) const {
  for (const std::string_view tower : kOtherTowers) {
    if (name.find(tower) != std::string_view::npos) return std::nullopt;
  }
  for (const PartName& part : parts_) {
    if (!IsBare(part.part)) continue;
    if (const auto layer = LayerOf(name, part.name)) {
      return WeightRole{part.part, *layer, false};
    }
  }
  const bool bias = name.ends_with(kBias);
  if (!bias && !name.ends_with(kWeight)) return std::nullopt;
  name.remove_suffix(bias ? kBias.size() : kWeight.size());
  bool in_layer = false;
  for (const PartName& part : parts_) {
    const std::string_view layers = LayersOf(part.name);
    if (layers.empty() || IsBare(part.part)) continue;
    in_layer |= FindModule(name, layers) != std::string_view::npos;
    if (const auto layer = LayerOf(name, part.name)) {
      return WeightRole{part.part, *layer, bias};
    }
  }
  for (const PartName& part : parts_) {
    if (!in_layer && LayersOf(part.name).empty() &&
        EndsWithModule(name, part.name)) {
      return WeightRole{part.part, -1, bias};
    }
  }
  return std::nullopt;
}

std::vector<PartRows> WeightNames::RowsOf(const WeightRole& role,
                                          const ModelConfig& config,
                                          int64_t rows) const {
  if (role.part == Part::kGateUp && rows % 2 == 0) {
    return {{Part::kGate, 0, rows / 2}, {Part::kUp, rows / 2, rows / 2}};
  }
  if (role.part != Part::kQkv) return {{role.part, 0, rows}};
  const LayerConfig& layer = config.layers[static_cast<size_t>(role.layer)];
  const int64_t dim = layer.head_dim;
  const int64_t groups = layer.num_kv_heads;
  const int64_t q = layer.num_heads * dim, k = groups * dim;
  if (rows != q + 2 * k) return {{role.part, 0, rows}};
  if (!grouped_qkv_ || groups == 1) {
    return {{Part::kQ, 0, q}, {Part::kK, q, k}, {Part::kV, q + k, k}};
  }
  const int64_t queries = q / groups, stride = queries + 2 * dim;
  return {{Part::kQ, 0, q, queries, stride},
          {Part::kK, queries, k, dim, stride},
          {Part::kV, queries + dim, k, dim, stride}};
}

}  // namespace verify_tflite
