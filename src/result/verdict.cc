#include "result/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "result/faithful.h"
#include "result/judge.h"

namespace verify_tflite {
namespace {

int64_t Differing(const Aggregate& a) { return a.flips + a.ties; }

// Ties are as wide as the noise, so that those of a model beyond its limits
// excuse nothing.
std::string Ties(const Verification& v, int64_t count) {
  const bool all = count == Differing(v.all);
  const std::string number = all ? "all" : std::to_string(count);
  const bool noisy =
      v.limits.rounding.has_value() || IsNoisy(v.all.kld.mean, v.limits);
  if (noisy && count > 0) {
    return fmt::format("{} of them only within this model's own noise", number);
  }
  return number + " of them ties";
}

std::string Tokens(const Verification& v) {
  const int64_t differing = Differing(v.all);
  if (differing == 0) return "every greedy choice agrees";
  return fmt::format("{} of {} greedy choices differ, {}", differing,
                     v.all.kld.count, Ties(v, v.all.ties));
}

std::string Figures(const Verification& v) {
  const Distribution& kld = v.all.kld;
  if (v.all.positions == 0) return "nothing was run";
  if (kld.count == 0) {
    return fmt::format("no figures: none of {} positions has finite logits",
                       v.all.positions);
  }
  std::string error;
  if (std::isfinite(kld.standard_error)) {
    error = fmt::format(" ± {:.2g}", kld.standard_error);
  }
  return fmt::format("mean KL divergence {:.3g}{} nats over {} positions, {}",
                     kld.mean, error, kld.count, Tokens(v));
}

// The checks with `outcome`, by name.
std::string NamesOf(const Verification& v, Outcome outcome) {
  std::vector<std::string> names;
  for (const CheckGroupTraits& group : kCheckGroups) {
    for (const Check& check : v.checks[group.group]) {
      if (check.outcome == outcome) names.push_back(check.name);
    }
  }
  for (size_t i = 0; i < v.prompts.size(); ++i) {
    if (v.prompts[i].outcome == outcome) {
      names.push_back(fmt::format("prompt {}", i + 1));
    }
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

const Finding* WorstFinding(const Verification& v) {
  const auto worst = std::max_element(v.findings.begin(), v.findings.end(),
                                      [](const Finding& a, const Finding& b) {
                                        return a.severity < b.severity;
                                      });
  return worst == v.findings.end() ? nullptr : &*worst;
}

// Nothing but how far the logits are off decides.
bool FailsByCostAlone(const Verification& v) {
  return !AnyAt(v.checks[CheckGroup::kSelf], v.outcome) &&
         !AnyAt(v.checks[CheckGroup::kBundle], v.outcome);
}

bool IsLossy(const Verification& v) {
  return JudgedRecipe(v.model) > Recipe::kFloat32;
}

// --- is it faithful? ---

// "int8", "float32 conversion with int8 KV caches".
std::string Conversion(const ModelInfo& model) {
  std::string text = fmt::format("{} conversion", NameOf(model.recipe));
  if (JudgedRecipe(model) > model.recipe) {
    text += fmt::format(" with {} KV caches", NameOf(JudgedRecipe(model)));
  }
  return text;
}

// Of a faithful file.
std::string Proof(const Verification& v) {
  std::string text =
      TablesProven(v)
          ? "every byte of its weights and tables is this checkpoint's, at "
            "every position of the KV cache, 100 % of operators verified"
          : "100 % of weight bytes are this checkpoint's, 100 % of operators "
            "verified";
  if (!v.structure) return text;  // judged from checks alone
  const std::string worst = DescribeWorst(*v.structure);
  return worst.empty() ? text : fmt::format("{} ({})", text, worst);
}

std::string Covered(const Check* check, std::string_view shown,
                    std::string_view none) {
  const bool any = check != nullptr && check->value.value_or(0) > 0;
  if (!any) return std::string(none);
  return fmt::format("{} of {}", Percent(*check->value), shown);
}

// Of one that is not shown to be faithful: how much of it is.
std::string Gap(const Verification& v) {
  std::string structure = Covered(StructureCheckOf(v), "operators verified",
                                  "no operator verified");
  if (v.structure && v.structure->not_run.empty() && !v.structure->same_bits &&
      CoverageOf(*v.structure).ops > 0) {
    structure += " in a copy that computes other bits";
  } else if (!v.structure && !v.settings.structure) {
    structure += " (--structure=off)";
  }
  return fmt::format(
      "{}, {}",
      Covered(WeightsCheckOf(v), "weight bytes are this checkpoint's",
              "weights not compared"),
      structure);
}

// --- is it good enough? ---

// "Quantisation costs 0.022 nats (weights 0.005, activations 0.017)"; `detail`
// stands behind that.
std::string Cost(const Verification& v) {
  const auto split = SplitCost(v);
  std::string what = "Quantisation costs";
  if (v.model.recipe == Recipe::kFloat16) what = "Rounding to float16 costs";
  if (v.model.recipe == Recipe::kFloat32) {
    what = fmt::format("Its {} KV caches cost", NameOf(JudgedRecipe(v.model)));
  } else if (v.model.recipe >= Recipe::kInt8 && split && split->all_weights) {
    what = "Quantisation of the weights costs";
  }
  const double total = split ? split->total : v.all.kld.mean;
  std::string text = fmt::format("{} {:.2g} nats", what, total);
  if (split && !split->all_weights && split->weights > 0) {
    text += fmt::format(" (weights {:.2g}, {} {:.2g})", split->weights,
                        NameOfRest(v.model), split->rest);
  }
  return text;
}

std::string Choices(const Verification& v) {
  const int64_t differing = Differing(v.all);
  if (differing == 0) return "every greedy choice agrees";
  const double share =
      100 * static_cast<double>(differing) /
      static_cast<double>(std::max<int64_t>(1, v.all.kld.count));
  const std::string percent =
      share < 9.5 ? fmt::format("{:.2g}", share) : fmt::format("{:.0f}", share);
  const std::string_view ties = IsNoisy(v.all.kld.mean, v.limits)
                                    ? " of them within this model's own noise"
                                    : " of them near-ties";
  return fmt::format(
      "{} % of greedy choices change, all{}{}", percent,
      v.all.flips == 0 ? "" : fmt::format(" but {}", v.all.flips), ties);
}

// "more than the 0.3 allowed (--max_kld)".
std::string Excess(const Verification& v) {
  const Check* kld = FindCheck(v.checks[CheckGroup::kDivergence], "kld");
  if (kld != nullptr && kld->outcome >= Outcome::kDegraded && kld->limit) {
    return fmt::format("more than the {:g} allowed (--max_kld)", *kld->limit);
  }
  return fmt::format("more than {} should ({})", NameOf(JudgedRecipe(v.model)),
                     NamesOf(v, v.outcome));
}

// --- by outcome ---

std::string PassReason(const Verification& v) {
  if (!IsFaithful(v)) {
    return fmt::format(
        "The TFLite model answers as PyTorch does{}: {}. Not shown to be "
        "faithful: {}.",
        IsLossy(v) ? fmt::format(", but for what {} costs",
                                 NameOf(JudgedRecipe(v.model)))
                   : "",
        Figures(v), Gap(v));
  }
  if (v.limits.rounding && v.rounding && !IsLossy(v)) {
    return fmt::format(
        "Faithful {}: {}. This model magnifies rounding: that of the last bits "
        "alone takes PyTorch {:.2g} nats from itself, and the file is {:.2g} "
        "nats from PyTorch ({}).",
        Conversion(v.model), Proof(v), v.rounding->kld.mean, v.all.kld.mean,
        Tokens(v));
  }
  if (!IsLossy(v)) {
    return fmt::format(
        "Faithful {}: {}. It answers as PyTorch does (mean KL divergence "
        "{:.2g} nats, {}).",
        Conversion(v.model), Proof(v), v.all.kld.mean, Tokens(v));
  }
  return fmt::format("Faithful {}: {}. {}; {}.", Conversion(v.model), Proof(v),
                     Cost(v), Choices(v));
}

std::string InconclusiveReason(const Verification& v) {
  const std::string evidence = fmt::format(
      "oo little evidence ({}): {}. Raise --eval_tokens or --max_new_tokens, "
      "or add prompts.",
      NamesOf(v, Outcome::kInconclusive), Figures(v));
  if (!IsFaithful(v)) return "T" + evidence;
  return fmt::format("Faithful {}: {}. Of what it costs, t{}",
                     Conversion(v.model), Proof(v), evidence);
}

// All of the weights and of the computation are right, and still it fails.
std::string FaithfulButFailed(const Verification& v) {
  const bool broken = v.outcome == Outcome::kBroken;
  if (IsLossy(v) && FailsByCostAlone(v)) {
    return fmt::format("Faithful {}, but {}: {}. {}, {}; {}.",
                       Conversion(v.model),
                       broken ? "too lossy to be of use" : "a poor one",
                       Proof(v), Cost(v), Excess(v), Choices(v));
  }
  return fmt::format(
      "The TFLite model {} ({}): {}. That is neither its weights nor its "
      "operators: {}.",
      broken ? "does not work" : "is further from PyTorch than it should be",
      NamesOf(v, v.outcome), Figures(v), Proof(v));
}

// A sound file of a coarse recipe can be as far off as another checkpoint's.
std::string TooLossy(const Verification& v) {
  return fmt::format(
      "The weights are this checkpoint's, but their quantisation ({}) costs "
      "more than it should ({}): {}. Not shown to be faithful: {}.",
      v.model.recipe_detail, NamesOf(v, v.outcome), Figures(v), Gap(v));
}

std::string FailureReason(const Verification& v) {
  const Finding* finding = WorstFinding(v);
  if (finding != nullptr && finding->severity == v.outcome) {
    return fmt::format("{} ({})", finding->sentence, Figures(v));
  }
  const Check* structure = StructureCheckOf(v);
  if (structure != nullptr && structure->outcome == v.outcome) {
    return fmt::format(
        "The TFLite model computes something else than the checkpoint's model: "
        "{}. "
        "({})",
        structure->detail, Figures(v));
  }
  if (IsFaithful(v)) return FaithfulButFailed(v);
  const bool degraded = v.outcome == Outcome::kDegraded;
  if (WeightsProven(v) && (degraded || v.model.recipe > Recipe::kFloat16)) {
    return TooLossy(v);
  }
  if (!degraded) {
    return fmt::format("The TFLite model is not this checkpoint ({}): {}.",
                       NamesOf(v, v.outcome), Figures(v));
  }
  return fmt::format(
      "The TFLite model works, but is further from PyTorch than {} should be "
      "({}): {}.",
      NameOf(JudgedRecipe(v.model)), NamesOf(v, v.outcome), Figures(v));
}

}  // namespace

std::string ReasonFor(const Verification& v) {
  switch (v.outcome) {
    case Outcome::kNotChecked:
      return "Nothing was compared.";
    case Outcome::kPass:
      return PassReason(v);
    case Outcome::kInconclusive:
      return InconclusiveReason(v);
    case Outcome::kDegraded:
    case Outcome::kBroken:
      return FailureReason(v);
  }
  return "";
}

}  // namespace verify_tflite
