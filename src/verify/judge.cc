#include "verify/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace verify_tflite {
namespace {

constexpr double kTieNoiseFactor = 4;

double DefaultMaxKld(Recipe recipe) {
  switch (recipe) {
    case Recipe::kFloat32:
      return 1e-6;
    case Recipe::kFloat16:
      return 1e-4;
    case Recipe::kInt8:
      return 0.1;
    case Recipe::kInt4:
      return 0.3;
  }
  return 0;  // an unknown recipe passes nothing
}

Check Measured(std::string name, bool passed, double value, double limit) {
  return {std::move(name), passed ? Outcome::kPass : Outcome::kFail, value,
          limit, ""};
}

bool AllFinite(const PromptResult& result) {
  return std::all_of(result.positions.begin(), result.positions.end(),
                     [](const Position& p) { return p.logits.finite; });
}

Check CheckTokens(const Limits& limits, const PromptResult& result) {
  const auto count =
      std::min<size_t>(limits.match_tokens, result.positions.size());
  size_t matching = 0;
  size_t ties = 0;
  for (size_t i = 0; i < count; ++i) {
    const Position& p = result.positions[i];
    const bool equal = p.logits.reference_token == p.logits.candidate_token;
    if (equal || p.tie) ++matching;
    if (!equal && p.tie) ++ties;
  }
  Check check =
      Measured("tokens", count > 0 && matching == count,
               static_cast<double>(matching), static_cast<double>(count));
  check.detail = fmt::format("{} of the first {} tokens match, {} of them ties",
                             matching, count, ties);
  return check;
}

Check CheckKld(const Limits& limits, const PromptResult& result) {
  double sum = 0;
  for (const Position& p : result.positions) sum += p.logits.kld;
  const double mean = sum / static_cast<double>(result.positions.size());
  // `<=` is false for the NaN of an empty result.
  Check check = Measured("kld", mean <= limits.max_kld, mean, limits.max_kld);
  check.detail =
      fmt::format("mean over {} positions, nats", result.positions.size());
  return check;
}

Check CheckLogits(const Limits& limits, const PromptResult& result) {
  double largest = 0;
  for (const Position& p : result.positions) {
    largest = std::max(largest, p.logits.max_abs);
  }
  if (!limits.tolerance) {
    return {"logits", Outcome::kNotChecked, largest, std::nullopt,
            "--tolerance is in force for float32 files only"};
  }
  Check check = Measured("logits", largest <= *limits.tolerance, largest,
                         *limits.tolerance);
  check.detail = "largest |logit difference|";
  return check;
}

Check CheckPrefillLogits(const Limits& limits, const PromptResult& result) {
  if (!result.prefill_logits) {
    return {"prefill_logits", Outcome::kNotChecked, std::nullopt, std::nullopt,
            "no prefill signature yields the logits of the last prompt token"};
  }
  const LogitDifference& logits = *result.prefill_logits;
  bool passed = logits.finite && logits.kld <= limits.max_kld;
  if (limits.tolerance) passed = passed && logits.max_abs <= *limits.tolerance;
  Check check = Measured("prefill_logits", passed, logits.kld, limits.max_kld);
  check.detail = fmt::format(
      "KL divergence of prefill's logits from decode's at the last prompt "
      "token; largest |logit difference| {:.3g}",
      logits.max_abs);
  return check;
}

}  // namespace

Limits LimitsFor(Recipe recipe, const Settings& settings) {
  Limits limits;
  limits.match_tokens = settings.match_tokens;
  limits.max_kld = settings.max_kld.value_or(DefaultMaxKld(recipe));
  if (recipe == Recipe::kFloat32) limits.tolerance = settings.tolerance;
  return limits;
}

bool IsTie(const LogitDifference& logits) {
  return logits.finite && logits.reference_token != logits.candidate_token &&
         logits.margin <= kTieNoiseFactor * logits.rms;
}

void Judge(const Limits& limits, PromptResult& result) {
  result.checks.clear();
  if (!AllFinite(result)) {
    // No other figure means anything then.
    result.checks = {{"finite_logits", Outcome::kFail, std::nullopt,
                      std::nullopt,
                      "the TFLite model yields NaN or infinite "
                      "logits"}};
  } else {
    result.checks = {CheckTokens(limits, result), CheckKld(limits, result),
                     CheckLogits(limits, result),
                     CheckPrefillLogits(limits, result)};
  }
  result.passed =
      std::none_of(result.checks.begin(), result.checks.end(),
                   [](const Check& c) { return c.outcome == Outcome::kFail; });
}

}  // namespace verify_tflite
