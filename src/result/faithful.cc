#include "result/faithful.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

namespace verify_tflite {
namespace {

constexpr size_t kMaxListed = 3;

// "a, b, c, … (6)".
std::string Listed(const std::vector<std::string>& names, const char* between) {
  const size_t shown = std::min(names.size(), kMaxListed);
  std::string text = fmt::format(
      "{}",
      fmt::join(names.begin(),
                names.begin() + static_cast<std::ptrdiff_t>(shown), between));
  if (shown < names.size()) {
    text += fmt::format("{}… ({} in all)", between, names.size());
  }
  return text;
}

// A stage beyond its limit is a fault, whether or not it was listed as one.
// Written so that NaN is.
bool Exceeds(const StageAgreement& stage) {
  return stage.rows > 0 && !(stage.worst <= stage.limit);
}

std::string Place(const std::string& stage, const std::string& op,
                  int64_t layer) {
  std::string text = stage;
  if (!op.empty()) text += fmt::format(" ({})", op);
  if (layer >= 0) text += fmt::format(" of layer {}", layer);
  return text;
}

// Of one signature, or of all.
std::vector<std::string> FaultsOf(const Structure& s,
                                  const std::string* only = nullptr) {
  std::vector<std::string> faults;
  for (const StructureFault& fault : s.faults) {
    if (only != nullptr && fault.signature != *only) continue;
    faults.push_back(Describe(fault));
  }
  if (!faults.empty()) return faults;
  for (const SignatureStructure& signature : s.signatures) {
    if (only != nullptr && signature.signature != *only) continue;
    for (const StageAgreement& stage : signature.stages) {
      if (!Exceeds(stage)) continue;
      faults.push_back(Describe({.signature = signature.signature,
                                 .stage = stage.stage,
                                 .layer = stage.layer,
                                 .position = stage.position,
                                 .op = "",
                                 .tensor = "",
                                 .error = stage.worst,
                                 .limit = stage.limit,
                                 .steps = stage.steps}));
    }
  }
  return faults;
}

constexpr const char* kOtherBits =
    "the model that was looked into gives other logits than the file, so that "
    "this says nothing about the file";

std::vector<std::string> GapsOf(const Structure& s) {
  std::vector<std::string> gaps;
  for (const SignatureStructure& signature : s.signatures) {
    if (std::string gap = GapOf(signature); !gap.empty()) {
      gaps.push_back(std::move(gap));
    }
  }
  if (!s.same_bits) gaps.push_back(kOtherBits);
  return gaps;
}

std::string DescribeCoverage(const Structure& s) {
  const OpCoverage coverage = CoverageOf(s);
  std::vector<std::string> names;
  for (const SignatureStructure& signature : s.signatures) {
    if (signature.not_run.empty()) names.push_back(signature.signature);
  }
  std::string text =
      fmt::format("{} of {} operators verified in {}", coverage.verified,
                  coverage.ops, Listed(names, ", "));
  const std::string worst = DescribeWorst(s);
  return worst.empty() ? text : fmt::format("{} ({})", text, worst);
}

Check NotChecked(std::string detail) {
  return {"structure", Outcome::kNotChecked, std::nullopt, std::nullopt,
          std::move(detail)};
}

}  // namespace

std::string GapOf(const SignatureStructure& s) {
  if (!s.not_run.empty()) {
    return fmt::format("{} was not compared: {}", s.signature, s.not_run);
  }
  if (s.ops == 0) {
    return fmt::format("{} has no operators to compare", s.signature);
  }
  if (s.verified_ops >= s.ops) return "";
  std::string gap = fmt::format("not covered: {} operators of {}",
                                s.ops - s.verified_ops, s.signature);
  if (s.not_verified.empty()) return gap;
  return fmt::format("{} ({})", gap, Listed(s.not_verified, ", "));
}

OpCoverage CoverageOf(const Structure& structure) {
  OpCoverage coverage;
  for (const SignatureStructure& signature : structure.signatures) {
    if (!signature.not_run.empty()) continue;
    coverage.ops += signature.ops;
    coverage.verified += signature.verified_ops;
    ++coverage.signatures;
  }
  return coverage;
}

std::optional<double> WorstError(const SignatureStructure& signature,
                                 bool linear) {
  std::optional<double> worst;
  for (const StageAgreement& stage : signature.stages) {
    if (stage.linear != linear || stage.rows == 0 || stage.steps) continue;
    if (std::isnan(stage.worst)) return stage.worst;
    worst = std::max(worst.value_or(0), stage.worst);
  }
  return worst;
}

namespace {

// Written so that NaN is.
bool IsWorse(const StageAgreement& a, const StageAgreement& b) {
  return !(a.worst / a.limit <= b.worst / b.limit);
}

const StageAgreement* WorstSteps(const Structure& structure, bool linear) {
  const StageAgreement* worst = nullptr;
  for (const SignatureStructure& signature : structure.signatures) {
    const StageAgreement* stage = WorstSteps(signature, linear);
    if (stage != nullptr && (worst == nullptr || IsWorse(*stage, *worst))) {
      worst = stage;
    }
  }
  return worst;
}

std::string DescribeSteps(const Structure& structure) {
  const StageAgreement* linear = WorstSteps(structure, true);
  const StageAgreement* rest = WorstSteps(structure, false);
  const auto of = [](const StageAgreement& stage) {
    return fmt::format("{:.2g} of {:.3g}", stage.worst, stage.limit);
  };
  if (linear == nullptr && rest == nullptr) return "";
  std::string text = "off by ";
  if (linear != nullptr) {
    text += of(*linear) +
            " steps that rounding may take in products with "
            "weights";
  }
  if (rest != nullptr) {
    text += linear != nullptr ? ", " : "";
    text += of(*rest) + (linear != nullptr ? " in the rest"
                                           : " steps that rounding may take");
  }
  return text;
}

}  // namespace

const StageAgreement* WorstSteps(const SignatureStructure& signature,
                                 bool linear) {
  const StageAgreement* worst = nullptr;
  for (const StageAgreement& stage : signature.stages) {
    if (stage.linear != linear || stage.rows == 0 || !stage.steps) continue;
    if (worst == nullptr || IsWorse(stage, *worst)) worst = &stage;
  }
  return worst;
}

std::optional<double> WorstError(const Structure& structure, bool linear) {
  std::optional<double> worst;
  for (const SignatureStructure& signature : structure.signatures) {
    const auto error = WorstError(signature, linear);
    if (!error) continue;
    if (std::isnan(*error)) return error;
    worst = std::max(worst.value_or(0), *error);
  }
  return worst;
}

std::string DescribeWorst(const Structure& structure) {
  if (std::string steps = DescribeSteps(structure); !steps.empty()) {
    return steps;
  }
  const auto linear = WorstError(structure, true);
  const auto rest = WorstError(structure, false);
  if (linear && rest) {
    return fmt::format(
        "worst error {:.2g} in products with weights, {:.2g} in the rest",
        *linear, *rest);
  }
  if (linear) return fmt::format("worst error {:.2g}", *linear);
  return rest ? fmt::format("worst error {:.2g}", *rest) : "";
}

std::string Percent(double share) {
  if (share >= 1) return "100 %";
  // 0.999 * 1000 may come out below 999.
  const double tenths = std::floor(std::max(0.0, share) * 1000 + 1e-9);
  return fmt::format("{:.1f} %", std::min(tenths, 999.0) / 10);
}

std::string Percent(int64_t part, int64_t whole) {
  if (whole <= 0) return "0.0 %";
  if (part >= whole) return "100 %";
  return Percent(
      std::min(0.9999, static_cast<double>(part) / static_cast<double>(whole)));
}

std::string Describe(const StructureFault& fault) {
  return fmt::format("{} in {} at position {}: error {:.2g}{}, limit {:.2g}",
                     Place(fault.stage, fault.op, fault.layer), fault.signature,
                     fault.position, fault.error, fault.steps ? " steps" : "",
                     fault.limit);
}

Check CheckStructure(const Verification& v, Outcome kld) {
  if (!v.structure) {
    return NotChecked(v.settings.structure
                          ? "operators were not verified"
                          : "operators were not verified (--structure=off)");
  }
  const Structure& s = *v.structure;
  if (!s.not_run.empty()) {
    return NotChecked("operators were not verified: " + s.not_run);
  }
  Check check = NotChecked("");
  const OpCoverage coverage = CoverageOf(s);
  if (coverage.ops > 0) {
    check.limit = 1;
    check.value = static_cast<double>(coverage.verified) /
                  static_cast<double>(coverage.ops);
  }
  if (const auto faults = FaultsOf(s); !faults.empty()) {
    check.outcome =
        kld == Outcome::kBroken ? Outcome::kBroken : Outcome::kDegraded;
    check.detail = fmt::format(
        "{}{}; {}", faults[0],
        faults.size() == 1
            ? ""
            : fmt::format(" (the first of {} faults)", faults.size()),
        DescribeCoverage(s));
    return check;
  }
  const std::vector<std::string> gaps = GapsOf(s);
  if (coverage.ops == 0) {
    check.detail = "operators were not verified";
    if (!gaps.empty()) check.detail += ": " + Listed(gaps, "; ");
    return check;
  }
  check.detail = DescribeCoverage(s);
  if (gaps.empty()) {
    check.outcome = Outcome::kPass;
  } else {
    check.detail += "; " + Listed(gaps, "; ");
  }
  return check;
}

std::vector<Check> SignatureChecks(const Verification& v) {
  std::vector<Check> checks;
  if (!v.structure || !v.structure->not_run.empty()) return checks;
  const Check* whole = StructureCheckOf(v);
  const Outcome failed = whole == nullptr ? Outcome::kDegraded : whole->outcome;
  for (const SignatureStructure& s : v.structure->signatures) {
    Check check;
    check.name = s.signature;
    if (s.not_run.empty() && s.ops > 0) {
      check.limit = 1;
      check.value =
          static_cast<double>(s.verified_ops) / static_cast<double>(s.ops);
    }
    const auto faults = FaultsOf(*v.structure, &s.signature);
    std::string gap = GapOf(s);
    if (gap.empty() && !v.structure->same_bits) gap = kOtherBits;
    if (!faults.empty()) {
      check.outcome = failed;
      check.detail = Listed(faults, "; ") + (gap.empty() ? "" : "; ") + gap;
    } else {
      check.outcome = gap.empty() ? Outcome::kPass : Outcome::kNotChecked;
      check.detail = gap;
    }
    checks.push_back(std::move(check));
  }
  return checks;
}

namespace {

bool Proven(const Check* check) {
  return check != nullptr && check->outcome == Outcome::kPass &&
         check->value.value_or(0) >= 1;
}

}  // namespace

const Check* WeightsCheckOf(const Verification& v) {
  return FindCheck(v.checks[CheckGroup::kWeights], "weights");
}

const Check* FindTables(const Verification& v) {
  return FindCheck(v.checks[CheckGroup::kWeights], "tables");
}

const Check* StructureCheckOf(const Verification& v) {
  return FindCheck(v.checks[CheckGroup::kStructure], "structure");
}

bool WeightsProven(const Verification& v) { return Proven(WeightsCheckOf(v)); }

bool TablesProven(const Verification& v) {
  const Check* tables = FindTables(v);
  return tables != nullptr && tables->outcome == Outcome::kPass;
}

bool StructureProven(const Verification& v) {
  return Proven(StructureCheckOf(v));
}

bool IsFaithful(const Verification& v) {
  // Results of versions before have no such check.
  return WeightsProven(v) && StructureProven(v) &&
         (FindTables(v) == nullptr || TablesProven(v));
}

std::optional<CostSplit> SplitCost(const Verification& v) {
  if (!v.weights_cost) return std::nullopt;
  const Distribution& weights = v.weights_cost->figures.kld;
  const Distribution& total = v.evaluation.figures.kld;
  if (total.count == 0 || weights.count != total.count) return std::nullopt;
  if (!std::isfinite(total.mean) || !std::isfinite(weights.mean)) {
    return std::nullopt;
  }
  CostSplit split = {.total = total.mean, .weights = weights.mean};
  split.rest = std::max(0.0, split.total - split.weights);
  split.all_weights = split.rest < 0.01 * split.total;
  return split;
}

std::string NameOfRest(const ModelInfo& model) {
  const bool caches = !model.kv_type.empty() && model.kv_type != "FLOAT32";
  if (model.recipe <= Recipe::kFloat16) {
    return caches ? "KV caches" : "rounding";
  }
  return caches ? "activations and KV caches" : "activations";
}

bool IsNoisy(double mean_kld, const Limits& limits) {
  return !(mean_kld <= limits.kld.pass);
}

bool IsNoisy(const PromptResult& result) {
  const Check* kld = FindCheck(result.checks, "kld");
  return kld != nullptr && kld->value && kld->limit &&
         !(*kld->value <= *kld->limit);
}

}  // namespace verify_tflite
