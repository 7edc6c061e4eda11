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

// Takes a number off the front of `text`; nothing where there is none.
std::optional<int32_t> TakeNumber(std::string_view& text) {
  int32_t number = -1;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

// The numbers of the layer and of the expert that `module` is of by `pattern`,
// which has the former; nothing where it is of another.
struct Numbers {
  int32_t layer = -1;
  int32_t expert = -1;
};
std::optional<Numbers> NumbersOf(std::string_view module,
                                 std::string_view pattern) {
  const std::string_view layers = LayersOf(pattern);
  const size_t at = FindModule(module, layers);
  if (at == std::string_view::npos) return std::nullopt;
  module.remove_prefix(at + layers.size());
  const auto layer = TakeNumber(module);
  if (!layer) return std::nullopt;
  pattern.remove_prefix(layers.size() + kNumber.size());
  const size_t second = pattern.find(kNumber);
  if (second == std::string_view::npos) {
    return module == pattern ? std::optional(Numbers{*layer}) : std::nullopt;
  }
  if (!module.starts_with(pattern.substr(0, second))) return std::nullopt;
  module.remove_prefix(second);
  const auto expert = TakeNumber(module);
  if (!expert || module != pattern.substr(second + kNumber.size())) {
    return std::nullopt;
  }
  return Numbers{*layer, *expert};
}

// Of all experts' gate and up, or down, `rows` in all.
std::vector<PartRows> RowsOfExperts(Part part, int64_t experts, int64_t rows) {
  std::vector<PartRows> result;
  const int64_t each = rows / experts;
  for (int64_t i = 0; i < experts; ++i) {
    const auto expert = static_cast<int32_t>(i);
    if (part == Part::kExpertDown) {
      result.push_back({part, i * each, each, 0, 0, expert});
      continue;
    }
    result.push_back({Part::kExpertGate, i * each, each / 2, 0, 0, expert});
    result.push_back(
        {Part::kExpertUp, i * each + each / 2, each / 2, 0, 0, expert});
  }
  return result;
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
      fmt::format(fmt::runtime(Find(role.part)->name), role.layer,
                  role.expert),
      suffix);
}

std::optional<WeightRole> WeightNames::RoleOf(std::string_view name) const {
  for (const std::string_view tower : kOtherTowers) {
    if (name.find(tower) != std::string_view::npos) return std::nullopt;
  }
  for (const PartName& part : parts_) {
    if (!IsBare(part.part)) continue;
    if (const auto numbers = NumbersOf(name, part.name)) {
      return WeightRole{part.part, numbers->layer, false, numbers->expert};
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
    if (const auto numbers = NumbersOf(name, part.name)) {
      return WeightRole{part.part, numbers->layer, bias, numbers->expert};
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
  if (role.part == Part::kSharedGateUp && rows % 2 == 0) {
    return {{Part::kSharedGate, 0, rows / 2},
            {Part::kSharedUp, rows / 2, rows / 2}};
  }
  const bool of_experts =
      role.part == Part::kExpertGateUp || role.part == Part::kExpertDown;
  if (of_experts && role.expert < 0 && config.experts.count > 0 &&
      rows % (2 * config.experts.count) == 0) {
    return RowsOfExperts(role.part, config.experts.count, rows);
  }
  if (role.part != Part::kQkv) {
    return {{role.part, 0, rows, 0, 0, role.expert}};
  }
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
