#include "result/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "result/faithful.h"
#include "result/verdict.h"

namespace verify_tflite {
namespace {

// Positions are grouped by their place in the sequence in doubling buckets:
// faults of RoPE, windows and chunks grow with it or begin at a boundary.
constexpr int64_t kFirstBucket = 32;

// Chosen from what sound conversions of two real models reach: docs/recipes.md.
Limits DefaultLimits(Recipe recipe) {
  Limits limits;
  switch (recipe) {
    case Recipe::kFloat32:
      limits.kld = {1e-7, 1e-2};
      limits.kld_p99 = {1e-6, 1e-1};
      limits.flips = {0.01, 0.4};
      limits.differing = 0.01;
      break;
    case Recipe::kFloat16:
      limits.kld = {1e-4, 1e-2};
      limits.kld_p99 = {1e-3, 1e-1};
      limits.flips = {0.01, 0.4};
      limits.differing = 0.03;
      break;
    case Recipe::kInt8WeightOnly:
      limits.kld = {0.025, 1};
      limits.kld_p99 = {0.12, 10};
      limits.flips = {0.01, 0.4};
      limits.differing = 0.2;
      break;
    case Recipe::kInt8:
      limits.kld = {0.1, 1};
      limits.kld_p99 = {0.6, 10};
      limits.flips = {0.01, 0.4};
      limits.differing = 0.35;
      break;
    case Recipe::kInt16x8Static:
      limits.kld = {0.1, 1};
      limits.kld_p99 = {1, 10};
      limits.flips = {0.01, 0.4};
      limits.differing = 0.35;
      break;
    case Recipe::kInt8Static:
      limits.kld = {0.5, 2};
      limits.kld_p99 = {3, 10};
      limits.flips = {0.05, 0.4};
      break;
    case Recipe::kInt4:
      limits.kld = {0.3, 2};
      limits.kld_p99 = {3, 10};
      limits.flips = {0.05, 0.4};
      break;
    case Recipe::kInt4PerChannel:
      limits.kld = {0.3, 1};
      limits.kld_p99 = {3, 10};
      limits.flips = {0.1, 0.4};
      break;
  }
  return limits;  // an unknown recipe passes nothing
}

void Widen(double least, Limit& limit) {
  limit.pass = std::max(limit.pass, least);
  limit.broken = std::max(limit.broken, least);
}

// Where rounding alone is within the limits, nothing changes.
void WidenToRounding(const Aggregate& rounding, const Settings& settings,
                     Limits& limits) {
  const Distribution& kld = rounding.kld;
  if (!(kRoundingRoom * kld.mean > limits.kld.pass) || settings.max_kld) return;
  Widen(kRoundingRoom * kld.mean, limits.kld);
  Widen(kRoundingRoom * kld.p99, limits.kld_p99);
  limits.rounding = kRoundingRoom * kld.max;
  const auto share = [&](int64_t count) {
    return 2 * ShareInterval(count, kld.count).high;
  };
  if (!settings.max_flips) Widen(share(rounding.flips), limits.flips);
  if (limits.differing) {
    limits.differing =
        std::max(*limits.differing, share(rounding.flips + rounding.ties));
  }
  if (limits.tolerance && !settings.tolerance_given) {
    limits.tolerance =
        std::max(*limits.tolerance, kRoundingRoom * rounding.max_abs);
  }
}

// For what is of few positions, which may be those that rounding moves most.
Limit LimitOfPosition(const Limits& limits) {
  Limit limit = limits.kld;
  Widen(limits.rounding.value_or(0), limit);
  return limit;
}

void Override(std::optional<double> value, Limit& limit) {
  if (!value) return;
  limit.pass = *value;
  limit.broken = std::max(limit.broken, *value);
}

Check Estimated(std::string name, double value, const Interval& interval,
                const Limit& limit, std::string detail) {
  Check check;
  check.name = std::move(name);
  check.outcome = HoldAgainst(interval, limit);
  check.value = value;
  check.interval = interval;
  check.limit = limit.pass;
  check.broken_limit = limit.broken;
  check.detail = std::move(detail);
  return check;
}

bool AllFinite(const std::vector<Position>& positions) {
  return std::all_of(positions.begin(), positions.end(),
                     [](const Position& p) { return p.logits.finite; });
}

std::vector<const Position*> Pointers(const std::vector<Position>& positions) {
  std::vector<const Position*> result;
  for (const Position& p : positions) result.push_back(&p);
  return result;
}

std::vector<const Position*> AllPositions(const Verification& v) {
  std::vector<const Position*> result = Pointers(v.evaluation.positions);
  for (const PromptResult& prompt : v.prompts) {
    const auto more = Pointers(prompt.positions);
    result.insert(result.end(), more.begin(), more.end());
  }
  return result;
}

// --- a prompt ---

Check CheckTokens(const Limits& limits, const PromptResult& result,
                  double mean_kld) {
  const auto count =
      std::min<size_t>(limits.match_tokens, result.positions.size());
  size_t matching = 0;
  size_t ties = 0;
  for (size_t i = 0; i < count; ++i) {
    const Position& p = result.positions[i];
    const bool equal = p.logits.reference_token == p.logits.candidate_token;
    const bool tie =
        p.tie || (limits.rounding && p.logits.kld <= *limits.rounding);
    if (equal || tie) ++matching;
    if (!equal && tie) ++ties;
  }
  Check check;
  check.name = "tokens";
  check.outcome =
      count > 0 && matching == count ? Outcome::kPass : Outcome::kDegraded;
  check.value = static_cast<double>(matching);
  check.limit = static_cast<double>(count);
  check.detail = fmt::format(
      "{} of the first {} tokens match, {} of them {}", matching, count, ties,
      ties > 0 && (limits.rounding.has_value() || IsNoisy(mean_kld, limits))
          ? "only within this model's own noise"
          : "ties");
  return check;
}

// Of no position at all, or of none with finite logits.
Check NoFigure(std::string name) {
  return {std::move(name), Outcome::kNotChecked, std::nullopt, std::nullopt,
          "no position has finite logits"};
}

// What float rounding alone leaves: every weight and every operator of a
// float32 file was verified. Then each figure counts as it is, since no text
// could show more, and what rounding makes of large logits is no fault.
bool LeavesRoundingAlone(const Verification& v) {
  return JudgedRecipe(v.model) == Recipe::kFloat32 && WeightsProven(v) &&
         (FindTables(v) == nullptr || TablesProven(v)) &&
         CheckStructure(v, Outcome::kNotChecked).outcome == Outcome::kPass;
}

// Whether there is evidence enough is asked of all positions together: that of
// one prompt passes by its mean, and fails where its interval does.
Check CheckPromptKld(const Limits& limits, const Aggregate& figures) {
  const Distribution& kld = figures.kld;
  Check check =
      Estimated("kld", kld.mean, kld.mean_interval, LimitOfPosition(limits),
                fmt::format("mean over {} positions, nats", figures.positions));
  if (check.outcome == Outcome::kInconclusive && kld.count > 0 &&
      kld.mean <= *check.limit) {
    check.outcome = Outcome::kPass;
  }
  return check;
}

Check CheckLogits(const Limits& limits, const Aggregate& figures,
                  bool rounding_alone) {
  if (figures.kld.count == 0) return NoFigure("logits");
  if (!limits.tolerance) {
    return {"logits", Outcome::kNotChecked, figures.max_abs, std::nullopt,
            "--tolerance is in force for float32 files only"};
  }
  Check check;
  check.name = "logits";
  check.outcome = figures.max_abs <= *limits.tolerance ? Outcome::kPass
                                                       : Outcome::kDegraded;
  check.value = figures.max_abs;
  check.limit = limits.tolerance;
  check.detail = "largest |logit difference|";
  if (rounding_alone && check.outcome == Outcome::kDegraded &&
      figures.kld.max <= limits.kld.pass) {
    check.outcome = Outcome::kPass;
    check.detail +=
        ", of float rounding alone: every weight and operator is verified, and "
        "no position diverges";
  }
  return check;
}

Check CheckPrefillLogits(const Limits& limits, const PromptResult& result,
                         bool rounding_alone) {
  if (!result.prefill_logits) {
    return {"prefill_logits", Outcome::kNotChecked, std::nullopt, std::nullopt,
            "no prefill signature yields the logits of the last prompt token"};
  }
  const LogitDifference& logits = *result.prefill_logits;
  Check check;
  check.name = "prefill_logits";
  const Limit limit = LimitOfPosition(limits);
  check.outcome = HoldAgainst({logits.kld, logits.kld}, limit);
  if (limits.tolerance && logits.max_abs > *limits.tolerance &&
      !rounding_alone) {
    check.outcome = std::max(check.outcome, Outcome::kDegraded);
  }
  if (!logits.finite) check.outcome = Outcome::kBroken;
  check.value = logits.kld;
  check.limit = limit.pass;
  check.detail = fmt::format(
      "KL divergence of prefill's logits from decode's at the last prompt "
      "token; largest |logit difference| {:.3g}",
      logits.max_abs);
  return check;
}

// --- everything ---

// From there the interval of the 99th percentile has an upper end.
constexpr int64_t kNeededForTail = 381;

// A check that this many positions could not pass whatever they show is not
// made: it would call every short run inconclusive.
Check TooFew(std::string name, double value, int64_t needed) {
  return {
      std::move(name), Outcome::kNotChecked, value, std::nullopt,
      fmt::format("takes at least {} positions: raise --eval_tokens", needed)};
}

Check CheckKld(const Verification& v, bool rounding_alone) {
  if (v.all.kld.count == 0 && v.all.positions > 0) return NoFigure("kld");
  Check check =
      Estimated("kld", v.all.kld.mean, v.all.kld.mean_interval, v.limits.kld,
                fmt::format("mean over {} positions, nats", v.all.kld.count));
  if (v.limits.rounding && v.rounding) {
    check.detail += fmt::format(
        "; rounding of the last bits alone makes {:.2g}, which this model "
        "magnifies",
        v.rounding->kld.mean);
  }
  if (rounding_alone && check.outcome == Outcome::kInconclusive &&
      v.all.kld.count > 0 && v.all.kld.max <= v.limits.kld.pass) {
    check.outcome = Outcome::kPass;
    check.detail +=
        "; few, but none is beyond the limit, and every weight and operator is "
        "verified";
  }
  return check;
}

Check CheckKldP99(const Verification& v) {
  const Distribution& kld = v.all.kld;
  if (kld.count == 0) return NoFigure("kld_p99");
  if (kld.count < kNeededForTail) {
    return TooFew("kld_p99", kld.p99, kNeededForTail);
  }
  return Estimated(
      "kld_p99", kld.p99, kld.p99_interval, v.limits.kld_p99,
      fmt::format("99th percentile of {} positions, nats", kld.count));
}

// The least number of positions that can show a share to be within `pass`;
// beyond 2^40 it does not matter how many. The interval of none among n narrows
// with n.
int64_t NeededForShare(double pass) {
  int64_t low = 0;
  int64_t high = 1;
  if (!(pass > 0)) return high;
  const auto enough = [&](int64_t n) {
    return ShareInterval(0, n).high <= pass;
  };
  while (high < (int64_t{1} << 40) && !enough(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high;
}

Check CheckFlips(const Verification& v) {
  const int64_t count = v.all.kld.count;
  if (count == 0) return NoFigure("flips");
  const double share = count == 0 ? 0
                                  : static_cast<double>(v.all.flips) /
                                        static_cast<double>(count);
  const int64_t needed = NeededForShare(v.limits.flips.pass);
  if (count < needed) return TooFew("flips", share, needed);
  return Estimated(
      "flips", share, ShareInterval(v.all.flips, count), v.limits.flips,
      fmt::format("{} greedy choices of {} differ beyond ties; {} ties",
                  v.all.flips, count, v.all.ties));
}

// Ties included. A flat distribution is full of ties, so that a share alone
// never says that the model is another one.
Check CheckDiffering(const Verification& v) {
  if (!v.limits.differing) {
    return {"differing", Outcome::kNotChecked, std::nullopt, std::nullopt,
            "no limit for this recipe, or a larger --max_kld replaces it"};
  }
  const Limit limit = {*v.limits.differing, 1};
  const int64_t count = v.all.kld.count;
  if (count == 0) return NoFigure("differing");
  const int64_t differing = v.all.flips + v.all.ties;
  const double share =
      count == 0 ? 0
                 : static_cast<double>(differing) / static_cast<double>(count);
  // A sound file is about halfway to the limit: below so many positions its
  // interval would hold it.
  if (count < kNeededForTail) return TooFew("differing", share, kNeededForTail);
  Check check =
      Estimated("differing", share, ShareInterval(differing, count), limit,
                fmt::format("{} greedy choices of {} differ, ties included",
                            differing, count));
  check.broken_limit.reset();
  return check;
}

void FindNonFinite(Verification& v, std::span<const Position* const> all) {
  const auto bad = std::count_if(all.begin(), all.end(), [](const Position* p) {
    return !p->logits.finite;
  });
  if (bad == 0) return;
  v.checks[CheckGroup::kDivergence].push_back(
      {"finite_logits", Outcome::kBroken, static_cast<double>(bad), 0,
       "positions at which the TFLite model yields NaN or "
       "infinite logits"});
  AddFinding(v, MakeFinding({.id = FindingId::kNan,
                             .evidence = fmt::format(
                                 "NaN or infinite logits at {} of {} positions",
                                 bad, all.size())}));
}

void FindConstant(Verification& v, std::span<const Position* const> all) {
  const auto constant =
      std::count_if(all.begin(), all.end(),
                    [](const Position* p) { return p->logits.constant; });
  if (constant == 0) return;
  AddFinding(v, MakeFinding({.id = FindingId::kConstantLogits,
                             .evidence = fmt::format(
                                 "all logits are equal at {} of {} positions",
                                 constant, all.size())}));
}

std::vector<Bucket> BucketsOf(std::span<const Position* const> all) {
  std::vector<Bucket> buckets;
  int64_t begin = 0;
  int64_t last = 0;
  for (const Position* p : all) last = std::max(last, p->index);
  for (int64_t end = kFirstBucket; begin <= last; end *= 2) {
    std::vector<const Position*> inside;
    for (const Position* p : all) {
      if (p->index >= begin && p->index < end) inside.push_back(p);
    }
    if (!inside.empty()) buckets.push_back({begin, end, Summarize(inside)});
    begin = end;
  }
  return buckets;
}

void JudgePassages(Evaluation& evaluation) {
  const auto all = Pointers(evaluation.positions);
  evaluation.figures = Summarize(all);
  for (Passage& passage : evaluation.passages) {
    passage.figures = Summarize(
        std::span(all).subspan(passage.begin, passage.end - passage.begin));
  }
}

}  // namespace

Outcome OutcomeOf(const Verification& v) {
  Outcome worst = Outcome::kNotChecked;
  const auto add = [&](Outcome outcome) { worst = std::max(worst, outcome); };
  for (const CheckGroupTraits& group : kCheckGroups) {
    for (const Check& check : v.checks[group.group]) {
      if (group.lenient && check.outcome == Outcome::kInconclusive) continue;
      add(check.outcome);
    }
  }
  for (const Finding& finding : v.findings) {
    if (finding.severity != Outcome::kInconclusive) add(finding.severity);
  }
  for (const PromptResult& prompt : v.prompts) {
    // A prompt has few positions; whether there are enough is asked of all.
    if (prompt.outcome != Outcome::kInconclusive) add(prompt.outcome);
  }
  // Nothing passes on the strength of side issues.
  const Check* kld = FindCheck(v.checks[CheckGroup::kDivergence], "kld");
  const bool judged = kld != nullptr && kld->outcome != Outcome::kNotChecked;
  return worst == Outcome::kPass && !judged ? Outcome::kNotChecked : worst;
}

Recipe JudgedRecipe(const ModelInfo& model) {
  Recipe caches = Recipe::kFloat32;
  if (model.kv_type == "FLOAT16") caches = Recipe::kFloat16;
  if (model.kv_type == "INT8") caches = Recipe::kInt8;
  return std::max(model.recipe, caches);
}

Limits LimitsFor(Recipe recipe, const Settings& settings) {
  Limits limits = DefaultLimits(recipe);
  limits.match_tokens = settings.match_tokens;
  Override(settings.max_kld, limits.kld);
  // The tail of sound files reaches four to five times the mean.
  if (settings.max_kld) Override(10 * *settings.max_kld, limits.kld_p99);
  Override(settings.max_flips, limits.flips);
  if (limits.differing && settings.max_flips) {
    limits.differing = std::max(*limits.differing, *settings.max_flips);
  }
  // Who allows more divergence than this recipe has allows what follows.
  if (settings.max_kld && *settings.max_kld > DefaultLimits(recipe).kld.pass) {
    limits.differing.reset();
  }
  if (recipe == Recipe::kFloat32) limits.tolerance = settings.tolerance;
  return limits;
}

Limits LimitsOf(const Verification& v) {
  Limits limits = LimitsFor(JudgedRecipe(v.model), v.settings);
  if (v.rounding && IsFaithful(v)) {
    WidenToRounding(*v.rounding, v.settings, limits);
  }
  return limits;
}

bool MagnifiesRounding(const Aggregate& rounding) {
  return kRoundingRoom * rounding.kld.mean >
         DefaultLimits(Recipe::kFloat32).kld.pass;
}

bool IsTie(const LogitDifference& logits) {
  return logits.finite && logits.reference_token != logits.candidate_token &&
         logits.margin <= kTieNoiseFactor * logits.rms;
}

Outcome HoldAgainst(const Interval& interval, const Limit& limit) {
  if (std::isnan(interval.low) || std::isnan(interval.high)) {
    return Outcome::kBroken;
  }
  if (interval.low > limit.broken) return Outcome::kBroken;
  if (interval.low > limit.pass) return Outcome::kDegraded;
  return interval.high <= limit.pass ? Outcome::kPass : Outcome::kInconclusive;
}

void JudgePrompt(const Limits& limits, PromptResult& result,
                 bool rounding_alone) {
  result.checks.clear();
  if (!AllFinite(result.positions)) {
    // No other figure means anything then.
    result.checks = {{"finite_logits", Outcome::kBroken, std::nullopt,
                      std::nullopt,
                      "the TFLite model yields NaN or infinite "
                      "logits"}};
  } else {
    const Aggregate figures = Summarize(Pointers(result.positions));
    result.checks = {CheckTokens(limits, result, figures.kld.mean),
                     CheckPromptKld(limits, figures),
                     CheckLogits(limits, figures, rounding_alone),
                     CheckPrefillLogits(limits, result, rounding_alone)};
  }
  result.outcome = Outcome::kNotChecked;
  for (const Check& check : result.checks) {
    result.outcome = std::max(result.outcome, check.outcome);
  }
}

void AddFinding(Verification& v, Finding finding) {
  const auto same = [&](const Finding& f) { return f.id == finding.id; };
  if (std::none_of(v.findings.begin(), v.findings.end(), same)) {
    v.findings.push_back(std::move(finding));
  }
}

void JudgeFigures(Verification& v) {
  const bool rounding_alone = LeavesRoundingAlone(v);
  // A limit of the user's own holds whatever explains it.
  const bool soft_tolerance = rounding_alone && !v.settings.tolerance_given;
  for (PromptResult& prompt : v.prompts) {
    JudgePrompt(v.limits, prompt, soft_tolerance);
  }
  JudgePassages(v.evaluation);
  const std::vector<const Position*> all = AllPositions(v);
  v.all = Summarize(all);
  v.buckets = BucketsOf(all);
  std::vector<Check>& checks = v.checks[CheckGroup::kDivergence];
  checks.clear();
  FindNonFinite(v, all);
  FindConstant(v, all);
  checks.push_back(CheckKld(v, rounding_alone));
  const Outcome kld = checks.back().outcome;
  checks.push_back(CheckKldP99(v));
  checks.push_back(CheckFlips(v));
  checks.push_back(CheckDiffering(v));
  checks.push_back(CheckLogits(v.limits, v.all, soft_tolerance));
  v.checks[CheckGroup::kStructure] = {CheckStructure(v, kld)};
}

void Conclude(Verification& v) {
  v.outcome = OutcomeOf(v);
  v.reason = ReasonFor(v);
}

void Judge(Verification& v) {
  JudgeFigures(v);
  Conclude(v);
}

}  // namespace verify_tflite
