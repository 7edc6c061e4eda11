#include "result/model_info.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>
#include <tuple>
#include <utility>

namespace verify_tflite {
namespace {

// A kind with less than this share of the weights does not name the recipe. An
// embedding alone, the least a recipe quantises, is 3 % of a 7B model.
constexpr double kRelevantShare = 0.02;

double Elements(const std::vector<WeightGroup>& groups) {
  double total = 0;
  for (const WeightGroup& group : groups) {
    total += static_cast<double>(group.elements);
  }
  return total;
}

Recipe RecipeOfGroup(const WeightGroup& group) {
  using Use = WeightGroup::Use;
  const std::string& type = group.type;
  const bool lookup = group.use == Use::kLookup;
  if (type == "INT2" || type == "INT4" || type == "UINT4") {
    const bool blocks = group.scales == WeightGroup::Scales::kPerBlock;
    return blocks || lookup ? Recipe::kInt4 : Recipe::kInt4PerChannel;
  }
  if (type == "INT8" || type == "UINT8") {
    if (group.use == Use::kStatic) return Recipe::kInt8Static;
    if (group.use == Use::kStatic16) return Recipe::kInt16x8Static;
    // Of integers in a product that is not known, the coarser is assumed.
    const bool float_product = lookup || group.use == Use::kDequantized;
    return float_product ? Recipe::kInt8WeightOnly : Recipe::kInt8;
  }
  if (type == "FLOAT16" || type == "BFLOAT16") return Recipe::kFloat16;
  return Recipe::kFloat32;
}

std::string ScalesText(const WeightGroup& group) {
  switch (group.scales) {
    case WeightGroup::Scales::kNone:
      break;
    case WeightGroup::Scales::kPerTensor:
      return " per tensor";
    case WeightGroup::Scales::kPerChannel:
      return " per channel";
    case WeightGroup::Scales::kPerBlock:
      return fmt::format(" in blocks of {}", group.block_size);
  }
  return "";
}

std::string UseText(const WeightGroup& group) {
  if (group.scales == WeightGroup::Scales::kNone) return "";
  switch (group.use) {
    case WeightGroup::Use::kTable:
    case WeightGroup::Use::kPlain:
      break;
    case WeightGroup::Use::kLookup:
      return ", lookup";
    case WeightGroup::Use::kDequantized:
      return ", weight-only";
    case WeightGroup::Use::kDynamic:
      return ", dynamic";
    case WeightGroup::Use::kStatic:
      return ", static";
    case WeightGroup::Use::kStatic16:
      return ", static, 16-bit activations";
  }
  return "";
}

std::string Describe(const WeightGroup& group) {
  std::string type = group.type;
  std::transform(type.begin(), type.end(), type.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return type + ScalesText(group) + UseText(group);
}

// Weights alone, and embeddings together with other weights that are stored the
// same way.
std::vector<WeightGroup> Kinds(const std::vector<WeightGroup>& groups) {
  using Use = WeightGroup::Use;
  std::vector<WeightGroup> kinds;
  for (const WeightGroup& group : groups) {
    if (group.use != Use::kTable && group.use != Use::kLookup) {
      kinds.push_back(group);
    }
  }
  for (const WeightGroup& group : groups) {
    if (group.use != Use::kLookup) continue;
    const auto same =
        std::find_if(kinds.begin(), kinds.end(), [&](const WeightGroup& other) {
          return std::tie(other.type, other.scales, other.block_size) ==
                 std::tie(group.type, group.scales, group.block_size);
        });
    if (same == kinds.end()) {
      kinds.push_back(group);
    } else {
      same->elements += group.elements;
    }
  }
  std::stable_sort(kinds.begin(), kinds.end(),
                   [](const WeightGroup& a, const WeightGroup& b) {
                     return a.elements > b.elements;
                   });
  return kinds;
}

}  // namespace

std::string_view NameOf(Recipe recipe) {
  switch (recipe) {
    case Recipe::kFloat32:
      return "float32";
    case Recipe::kFloat16:
      return "float16";
    case Recipe::kInt8WeightOnly:
      return "int8 weight-only";
    case Recipe::kInt8:
      return "int8";
    case Recipe::kInt16x8Static:
      return "int16x8 static";
    case Recipe::kInt8Static:
      return "int8 static";
    case Recipe::kInt4:
      return "int4";
    case Recipe::kInt4PerChannel:
      return "int4 per channel";
  }
  return "unknown";
}

std::vector<WeightGroup> SumOfKinds(const std::vector<WeightGroup>& groups) {
  std::map<
      std::tuple<std::string, WeightGroup::Scales, int64_t, WeightGroup::Use>,
      WeightGroup>
      kinds;
  for (const WeightGroup& group : groups) {
    const auto [kind, is_new] = kinds.try_emplace(
        std::tuple(group.type, group.scales, group.block_size, group.use),
        group);
    if (is_new) continue;
    kind->second.bytes += group.bytes;
    kind->second.elements += group.elements;
  }
  std::vector<WeightGroup> sums;
  for (auto& [key, group] : kinds) sums.push_back(std::move(group));
  std::ranges::stable_sort(sums, std::ranges::greater(),
                           &WeightGroup::elements);
  return sums;
}

std::string DescribeWeights(const std::vector<WeightGroup>& all) {
  const std::vector<WeightGroup> groups = Kinds(all);
  const double total = Elements(groups);
  std::vector<std::string> kinds;
  std::vector<std::string> shares;
  for (const WeightGroup& group : groups) {
    const double share = static_cast<double>(group.elements) / total;
    if (!(share > kRelevantShare)) continue;
    kinds.push_back(Describe(group));
    shares.push_back(fmt::format("{:.0f} % {}", 100 * share, kinds.back()));
  }
  if (kinds.empty()) return "no weights";
  if (kinds.size() == 1) return kinds.front();
  return fmt::format("mixed: {}", fmt::join(shares, "; "));
}

Recipe RecipeOf(const std::vector<WeightGroup>& groups) {
  const double total = Elements(groups);
  Recipe coarsest = Recipe::kFloat32;
  for (const Recipe recipe : kAllRecipes) {
    double count = 0;
    for (const WeightGroup& group : groups) {
      if (RecipeOfGroup(group) == recipe) {
        count += static_cast<double>(group.elements);
      }
    }
    if (count > kRelevantShare * total) coarsest = recipe;
  }
  return coarsest;
}

}  // namespace verify_tflite
