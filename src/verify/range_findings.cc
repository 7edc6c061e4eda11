#include "verify/range_findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/utf8.h"

namespace verify_tflite {
namespace {

constexpr size_t kShown = 6;  // lines of evidence

// Of a tensor's squares that are cut off. docs/recipes.md has what sound files
// reach.
constexpr double kLost = 0.02;
// Where the divergence asks for a cause.
constexpr double kLostAtACost = 2e-3;

double LostShare(const RangeUse& use) {
  return use.squares > 0 ? use.lost_squares / use.squares : 0;
}

// Whether the tensor itself cuts off, not one between it and what was known.
bool IsOwn(const RangeUse& use) {
  return use.least < use.range.low - use.range.step ||
         use.most > use.range.high + use.range.step;
}

std::string Line(const TensorUse& tensor) {
  const RangeUse& use = tensor.use;
  std::string text = fmt::format(
      "{}: {} ({}) holds {:.4g} to {:.4g}; the checkpoint's model has {:.4g} "
      "to "
      "{:.4g} there. {:.2g} % of its numbers are cut off, {:.2g} % of its size",
      Quote(tensor.signature), tensor.op, Quote(tensor.tensor), use.range.low,
      use.range.high, use.least, use.most,
      100 * static_cast<double>(use.outside) / static_cast<double>(use.values),
      100 * LostShare(use));
  if (!IsOwn(use)) text += ", by a tensor inside that operator or before it";
  return text + ".";
}

}  // namespace

std::optional<Finding> FindRanges(std::span<const TensorUse> uses,
                                  Outcome kld) {
  const double least = kld >= Outcome::kDegraded ? kLostAtACost : kLost;
  std::vector<const TensorUse*> found;
  for (const TensorUse& tensor : uses) {
    if (LostShare(tensor.use) >= least) found.push_back(&tensor);
  }
  if (found.empty()) return std::nullopt;
  std::ranges::stable_sort(found, [](const TensorUse* a, const TensorUse* b) {
    if (IsOwn(a->use) != IsOwn(b->use)) return IsOwn(a->use);
    return LostShare(a->use) > LostShare(b->use);
  });
  std::string evidence;
  for (size_t i = 0; i < std::min(kShown, found.size()); ++i) {
    evidence += (i == 0 ? "" : "\n") + Line(*found[i]);
  }
  if (found.size() > kShown) {
    evidence += fmt::format("\n… and {} more", found.size() - kShown);
  }
  return MakeFinding({.id = FindingId::kActivationRange,
                      .severity = kld == Outcome::kBroken ? Outcome::kBroken
                                                          : Outcome::kDegraded,
                      .evidence = std::move(evidence)});
}

}  // namespace verify_tflite
