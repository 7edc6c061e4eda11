#include "verify/signature_findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/utf8.h"
#include "tflite/interface.h"

namespace verify_tflite {
namespace {

constexpr size_t kShown = 6;  // lines of evidence

// Decode steps after which the effect of two scales is told.
constexpr double kSteps = 32;
// What is stored may be off by so much after them before it is broken.
constexpr double kMostShrinking = 0.1;

// Added to a score, it hides a position from softmax where scores differ by a
// few: e^-8 is 0.03 %.
constexpr double kHidden = -8;

// An angle that is off by this turns a pair of numbers visibly: 0.02 rad is 2 %
// of their size.
constexpr double kAngleError = 0.02;
constexpr double kWrongAngle = 0.2;

std::string WithScale(const TensorSpec& tensor) {
  std::string text = Describe(tensor);
  if (tensor.scale) {
    text += fmt::format(" (scale {:.4g}, zero point {})", tensor.scale->scale,
                        tensor.scale->zero_point);
  }
  return text;
}

std::string Line(const SignatureFault& fault) {
  const std::string_view end = fault.is_output ? "output" : "input";
  std::string text = fmt::format(
      "{}: signature {}: {} {} is tensor {}, which is no {} of its graph",
      fault.file, Quote(fault.signature), end, WithScale(fault.named),
      fault.tensor, end);
  if (fault.graphs) {
    text += fmt::format("; the graph's is tensor {}, {}, made from it by {}",
                        fault.graphs_tensor, WithScale(*fault.graphs),
                        fault.made_by);
  }
  return text;
}

}  // namespace

std::vector<Finding> FindingsOf(std::span<const SignatureFault> faults) {
  if (faults.empty()) return {};
  std::string evidence;
  for (size_t i = 0; i < std::min(kShown, faults.size()); ++i) {
    evidence += (i == 0 ? "" : "\n") + Line(faults[i]);
  }
  if (faults.size() > kShown) {
    evidence += fmt::format("\n… and {} more", faults.size() - kShown);
  }
  return {MakeFinding(
      {.id = FindingId::kSignatureOutput, .evidence = std::move(evidence)})};
}

namespace {

using Ends = std::vector<const EndScale*>;

// By cache, in the order of the file.
std::map<std::string, Ends> CacheEnds(const ModelInfo& model) {
  std::map<std::string, Ends> caches;
  for (const EndScale& end : model.end_scales) {
    if (ParseKvName(end.name)) caches[end.name].push_back(&end);
  }
  return caches;
}

// One way that a cache takes: written by one signature, read by another or by
// the same at its next step.
struct Handover {
  const EndScale* from = nullptr;
  const EndScale* to = nullptr;
  double kept = 1;  // of what is stored, after all steps
};

// The worst of all ways. Production hands the bytes over as they are.
std::optional<Handover> WorstHandover(const Ends& ends) {
  std::optional<Handover> worst;
  for (const EndScale* from : ends) {
    if (!from->is_output) continue;
    for (const EndScale* to : ends) {
      if (to->is_output || to->scale == from->scale) continue;
      const double once = static_cast<double>(to->scale.scale) /
                          static_cast<double>(from->scale.scale);
      // A decode's own output is its next step's input; any other way is taken
      // once.
      const bool again = from->signature == to->signature && from->decode;
      const Handover found{from, to, again ? std::pow(once, kSteps) : once};
      const auto off = [](const Handover& h) {
        return std::abs(std::log(h.kept));
      };
      if (!worst || off(found) > off(*worst)) worst = found;
    }
  }
  return worst;
}

std::string ScaleText(const EndScale& end) {
  return fmt::format("{} of {}: scale {:.4g}, zero point {}",
                     end.is_output ? "output" : "input", Quote(end.signature),
                     end.scale.scale, end.scale.zero_point);
}

std::optional<Finding> KvScales(const ModelInfo& model) {
  const auto caches = CacheEnds(model);
  size_t differing = 0;
  std::optional<Handover> worst;
  std::string cache;
  for (const auto& [name, ends] : caches) {
    const auto found = WorstHandover(ends);
    if (!found) continue;
    ++differing;
    if (worst &&
        std::abs(std::log(found->kept)) <= std::abs(std::log(worst->kept))) {
      continue;
    }
    worst = found;
    cache = name;
  }
  if (!worst) return std::nullopt;
  const bool again =
      worst->from->signature == worst->to->signature && worst->from->decode;
  return MakeFinding(
      {.id = FindingId::kKvScaleDiffers,
       .severity = std::abs(worst->kept - 1) > kMostShrinking
                       ? Outcome::kBroken
                       : Outcome::kDegraded,
       .evidence = fmt::format(
           "{} of {} caches. The worst, {}: {}; {}.\n{} % of what is stored is "
           "left {}.",
           differing, caches.size(), Quote(cache), ScaleText(*worst->from),
           ScaleText(*worst->to), fmt::format("{:.4g}", 100 * worst->kept),
           again ? fmt::format("after {:g} decode steps", kSteps)
                 : "after one hand-over")});
}

// The lowest number that the type can stand for.
double Lowest(const EndScale& end) {
  const double code = end.type == "INT16" ? -32768 : -128;
  return static_cast<double>(end.scale.scale) *
         (code - static_cast<double>(end.scale.zero_point));
}

std::optional<Finding> MaskRange(const ModelInfo& model) {
  const EndScale* worst = nullptr;
  for (const EndScale& end : model.end_scales) {
    if (!end.mask) continue;
    if (worst == nullptr || Lowest(end) > Lowest(*worst)) worst = &end;
  }
  if (worst == nullptr || Lowest(*worst) <= kHidden) return std::nullopt;
  return MakeFinding(
      {.id = FindingId::kMaskRange,
       .evidence = fmt::format(
           "{} {} [{}]: scale {:.4g}, zero point {}: the lowest number is "
           "{:.3g}; a hidden position keeps {:.3g} of its weight.",
           Quote(worst->name), worst->type, worst->signature,
           worst->scale.scale, worst->scale.zero_point, Lowest(*worst),
           std::exp(Lowest(*worst)))});
}

std::optional<Finding> RopePrecision(const ModelInfo& model) {
  if (model.angle_step / 2 <= kAngleError) return std::nullopt;
  return MakeFinding(
      {.id = FindingId::kRopePrecision,
       .severity = model.angle_step / 2 > kWrongAngle ? Outcome::kBroken
                                                      : Outcome::kDegraded,
       .evidence = fmt::format(
           "The angles that COS and SIN read come in steps of {:.3g} rad, and "
           "are off by up to {:.3g} rad (a pair of numbers by {:.3g} % of its "
           "size).",
           model.angle_step, model.angle_step / 2,
           100 * 2 * std::sin(std::min(model.angle_step / 4, 1.5707963)))});
}

}  // namespace

std::vector<Finding> ScaleFindings(const ModelInfo& model) {
  std::vector<Finding> findings;
  for (auto& finding :
       {KvScales(model), MaskRange(model), RopePrecision(model)}) {
    if (finding) findings.push_back(*finding);
  }
  return findings;
}

}  // namespace verify_tflite
