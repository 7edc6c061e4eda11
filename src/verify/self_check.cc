#include "verify/self_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <utility>

#include "verify/self_check/comparisons.h"

namespace verify_tflite {
namespace {

// Activations that are quantised on the way turn rounding into steps: a value
// that falls to the other side of one moves by a whole step.
bool QuantisesActivations(const ModelInfo& model) {
  using Use = WeightGroup::Use;
  return std::any_of(
      model.weights.begin(), model.weights.end(), [](const WeightGroup& group) {
        return group.use == Use::kDynamic || group.use == Use::kStatic ||
               group.use == Use::kStatic16;
      });
}

// Bytes that KV caches take for a number, rounded down. 4 where layers differ:
// no converter rounds rings.
int64_t CacheBytes(const ModelInfo& model) {
  if (model.kv_values == 0) return 4;
  const int64_t sets = model.decode_batch > 1 ? 1 + model.decode_batch : 1;
  return model.kv_bytes /
         (sets * model.kv_values * model.kv_length * model.num_layers);
}

// What the checks of one prefill signature came to.
struct PrefillOutcome {
  // Where it differs the most, in tokens; 0: it does not.
  int64_t differs = 0;
  bool matches_decode = false;  // and all compared with decode alone
  bool differs_from_decode = false;
};

// What the findings are made from, beside the checks.
struct Outcomes {
  std::vector<PrefillOutcome> prefills;  // as in ModelInfo
  bool chunks_differ = false;
  bool stale_entries_count = false;
};

// Tells the stages of a self-check as they are entered.
class Stages {
 public:
  explicit Stages(const Feeder& feeder) : feeder_(feeder) {
    const int64_t boundaries = (feeder.info().ring_length > 0 ? 1 : 0) +
                               (feeder.options().window ? 1 : 0);
    // Six more: decode alone, chunks, state, threads, the end, kernels.
    count_ = static_cast<int64_t>(feeder.lengths().size()) + boundaries + 6;
  }
  void Enter(const std::string& stage) {
    if (!feeder_.options().progress) return;
    feeder_.options().progress("self-check: " + stage, done_++, count_);
  }

 private:
  const Feeder& feeder_;
  int64_t count_ = 0;
  int64_t done_ = 0;
};

PrefillOutcome OutcomeOf(const PrefillTally& tally, const Check& check) {
  return {.differs = Failed(check) ? tally.tally.worst() : 0,
          .matches_decode =
              !tally.tally.empty() && tally.against_decode && !Failed(check),
          .differs_from_decode = tally.differs_from_decode};
}

void CheckBoundaries(Feeder& feeder, const SelfCheckLimits& limits,
                     Stages& stages, std::vector<Check>& checks) {
  const auto check = [&](const char* name, int64_t boundary) {
    stages.Enter(name);
    checks.push_back(CheckBoundary(feeder, limits, name, boundary));
  };
  const int64_t ring = feeder.info().ring_length;
  const auto window = feeder.options().window;
  if (ring > 0) check("ring", ring);
  if (window && *window != ring) check("window", *window);
}

// Makes all checks, the cheaper ones of each kind first.
Outcomes MakeChecks(Feeder& feeder, const SelfCheckLimits& limits,
                    std::vector<Check>& checks) {
  Stages stages(feeder);
  Outcomes outcomes;
  const size_t count = feeder.lengths().size();
  std::vector<PrefillTally> prefills(count);
  outcomes.prefills.resize(count);
  stages.Enter("decode alone");
  feeder.DecodeAlone(WantedRows(feeder));
  for (size_t i = count; i-- > 0;) {
    stages.Enter(feeder.info().prefills[i].name);
    ComparePrefill(feeder, limits, i, /*first=*/true, prefills[i]);
  }
  stages.Enter("chunking");
  const PrefillTally chunks = CompareChunks(feeder);
  for (size_t i = count; i-- > 0;) {
    ComparePrefill(feeder, limits, i, /*first=*/false, prefills[i]);
  }
  for (size_t i = count; i-- > 0;) {
    checks.push_back(PrefillCheck(feeder, limits, i, prefills[i]));
    outcomes.prefills[i] = OutcomeOf(prefills[i], checks.back());
  }
  checks.push_back(ChunksCheck(feeder, limits, chunks));
  outcomes.chunks_differ = !(chunks.tally.kld() <= limits.kld.pass);
  CheckBoundaries(feeder, limits, stages, checks);
  stages.Enter("state leak");
  StateLeak leak = CheckStateLeak(feeder);
  checks.push_back(std::move(leak.check));
  outcomes.stale_entries_count = leak.stale_entries_count;
  stages.Enter("threads");
  checks.push_back(CheckThreads(feeder, limits));
  stages.Enter("end of the KV cache");
  checks.push_back(CheckKvEnd(feeder, limits));
  stages.Enter("kernels");
  checks.push_back(CheckKernels(feeder, limits));
  return outcomes;
}

// Which side of a difference between prefill and decode is the odd one out.
struct Suspicion {
  std::string cause = "";  // empty: none can be told
  bool decode_is_odd = false;
};

// Of prefill, a shorter prefill and decode, given the same tokens.
Suspicion Suspect(Feeder& feeder, const SelfCheckLimits& limits,
                  const Outcomes& outcomes) {
  if (outcomes.stale_entries_count) {
    return {
        "A mask that lets tokens see entries after them: what an earlier "
        "prompt left in the KV cache changes the logits."};
  }
  // Chunks that are filled up agree with each other in what pads do.
  const ModelInfo& info = feeder.info();
  if (info.num_states > 0 && !info.pad_token &&
      !info.repeated_positions_are_pads) {
    return {
        "Nothing in the graph marks pads: those of a prompt that does not fill "
        "its chunk enter the states of convolutions."};
  }
  std::vector<std::string> odd;
  bool decode_is_odd = false;
  bool longer_matches = false;
  for (size_t i = 0; i < feeder.lengths().size(); ++i) {  // descending
    const PrefillOutcome& prefill = outcomes.prefills[i];
    longer_matches = longer_matches || prefill.matches_decode;
    const int64_t tokens = prefill.differs;
    if (tokens == 0) continue;
    const std::string& name = feeder.info().prefills[i].name;
    const Logits* decoded = feeder.Decoded(tokens);
    if (feeder.Smaller(i) == 0 || decoded == nullptr) {
      // Nothing else to compare it with at so many tokens.
      if (longer_matches) {
        odd.push_back(name);
      } else if (!decode_is_odd) {
        return {};
      }
      continue;
    }
    const auto agree = [&](const Logits& a, const Logits& b) {
      return feeder.Compare(a, b).kld <= limits.kld.pass;
    };
    const Logits& shorter = feeder.Feed(Cut(tokens, feeder.Smaller(i))).row;
    if (agree(shorter, feeder.Feed({tokens}).row)) {
      decode_is_odd = true;
    } else if (agree(shorter, *decoded)) {
      odd.push_back(name);
    } else {
      return {};
    }
  }
  if (decode_is_odd == !odd.empty()) return {};
  return {fmt::format("The weights, mask or positions of {} alone.",
                      decode_is_odd ? "decode"
                                    : fmt::format("{}", fmt::join(odd, ", "))),
          decode_is_odd};
}

// Returns a finding with the details of those of `checks` that failed; none
// where none did. `names`: the checks that it is about.
std::optional<Finding> FindingOf(const std::vector<Check>& checks,
                                 const std::vector<std::string>& names,
                                 FindingParts parts) {
  parts.severity = Outcome::kNotChecked;
  for (const Check& check : checks) {
    if (!Failed(check) || std::ranges::count(names, check.name) == 0) continue;
    if (!parts.evidence.empty()) parts.evidence += '\n';
    parts.evidence += check.name + ": " + check.detail;
    parts.severity = std::max(parts.severity, check.outcome);
  }
  if (parts.evidence.empty()) return std::nullopt;
  return MakeFinding(std::move(parts));
}

// Prefill, chunks and boundaries: one finding, the first that explains the
// others.
std::optional<Finding> FindPrefillFault(Feeder& feeder,
                                        const SelfCheckLimits& limits,
                                        const Outcomes& outcomes,
                                        const std::vector<Check>& checks) {
  std::vector<std::string> names;
  for (const PrefillInfo& prefill : feeder.info().prefills) {
    names.push_back(prefill.name);
  }
  const bool differs = std::ranges::any_of(
      outcomes.prefills, [](const auto& p) { return p.differs > 0; });
  const bool differs_from_decode = std::ranges::any_of(
      outcomes.prefills, &PrefillOutcome::differs_from_decode);
  if (differs && (differs_from_decode || !outcomes.chunks_differ)) {
    Suspicion suspicion = Suspect(feeder, limits, outcomes);
    return FindingOf(
        checks, names,
        {.id = suspicion.decode_is_odd ? FindingId::kDecodeDiffers
                                       : FindingId::kPrefillDiffers,
         .sentence = "Prefill and decode compute different "
                     "things: what the model makes of a prompt "
                     "depends on its length.",
         .cause = std::move(suspicion.cause)});
  }
  // A shorter prefill, which others were compared with, is in several chunks.
  names.push_back("chunking");
  auto finding = FindingOf(checks, names, {.id = FindingId::kChunking});
  if (finding) return finding;
  return FindingOf(checks, {"ring", "window", "kv_end"},
                   {.id = FindingId::kKvBoundary});
}

std::vector<Finding> FindFaults(Feeder& feeder, const SelfCheckLimits& limits,
                                const Outcomes& outcomes,
                                const std::vector<Check>& checks) {
  if (feeder.nan()) {
    return {MakeFinding(
        {.id = FindingId::kNan,
         .evidence =
             "NaN or infinite logits while it was compared with itself"})};
  }
  std::vector<Finding> findings;
  const auto add = [&](std::optional<Finding> finding) {
    if (finding) findings.push_back(*std::move(finding));
  };
  add(FindPrefillFault(feeder, limits, outcomes, checks));
  const bool mask = outcomes.stale_entries_count && !findings.empty() &&
                    findings.front().id == FindingId::kPrefillDiffers;
  if (!mask) {  // else said there
    add(FindingOf(checks, {"state_leak"},
                  {.id = FindingId::kStateLeak,
                   .cause = outcomes.stale_entries_count
                                ? "Attention sees entries of the KV cache "
                                  "behind the last token."
                                : "The graph keeps state outside the KV "
                                  "caches."}));
  }
  add(FindingOf(checks, {"threads"}, {.id = FindingId::kThreadsDiffer}));
  add(FindingOf(checks, {"kernels"}, {.id = FindingId::kKernelDiffers}));
  return findings;
}

// KV caches are one of some ten places of a layer that are rounded, and what
// each does to the divergence adds up.
constexpr double kRoomOfCaches = 16;

// Two ways through a file round differently. Where the model magnifies that,
// what is no further than rounding alone goes tells nothing. Returns the checks
// that this excuses, by index.
std::vector<size_t> FindRounding(Feeder& feeder, SelfCheckLimits& limits,
                                 Outcomes& outcomes,
                                 std::vector<Check>& checks) {
  const auto doubtful = [](const Check& check) {
    // Equal to the bit, or not.
    return Failed(check) && check.value && check.name != "state_leak";
  };
  if (feeder.nan() || std::ranges::none_of(checks, doubtful)) return {};
  const double rounding = feeder.DecodeWithMovedBits();
  const double most = kRoomOfCaches * rounding;
  std::vector<size_t> excused;
  for (size_t i = 0; i < checks.size(); ++i) {
    Check& check = checks[i];
    if (!doubtful(check) || *check.value > most) continue;
    excused.push_back(i);
    check.outcome = Outcome::kPass;
    check.detail += fmt::format(
        "; the last bit of its KV caches, moved by chance, makes {:.2g} nats: "
        "this model magnifies rounding, and such a difference tells nothing",
        rounding);
  }
  limits.kld.pass = std::max(limits.kld.pass, most);
  limits.kernels.pass = std::max(limits.kernels.pass, most);
  for (size_t i = 0; i < outcomes.prefills.size(); ++i) {
    const Check* check = FindCheck(checks, feeder.info().prefills[i].name);
    if (check == nullptr || Failed(*check)) continue;
    outcomes.prefills[i].differs = 0;
    outcomes.prefills[i].differs_from_decode = false;
  }
  const Check* chunks = FindCheck(checks, "chunking");
  if (chunks != nullptr && !Failed(*chunks)) outcomes.chunks_differ = false;
  return excused;
}

}  // namespace

SelfCheckLimits SelfCheckLimitsFor(const ModelInfo& model) {
  SelfCheckLimits limits;
  limits.kld = {1e-8, 1e-2};
  limits.kernels = {1e-6, 1e-2};
  if (CacheBytes(model) < 4) limits.kld.pass = 1e-5;
  if (CacheBytes(model) < 2 || QuantisesActivations(model)) {
    limits.kld = {1e-2, 1};
  }
  if (QuantisesActivations(model)) limits.kernels = {1, 5};
  // Convolutions have integer taps in prefill alone, and quantise what they are
  // of with one scale for a run: prefill is another sum than decode.
  if (QuantisesActivations(model) && model.num_states > 0) {
    limits.kld.pass = 1e-1;
  }
  return limits;
}

int64_t BriefSteps(const ModelInfo& model) {
  // A decode step reads all weights once. Measured: 50 steps a second with
  // 135 MB.
  constexpr int64_t kBytes = int64_t{18'000'000'000};
  constexpr int64_t kLeast = 95;
  int64_t bytes = 1;
  for (const auto& [type, size] : model.weight_bytes) bytes += size;
  return std::clamp(kBytes / bytes, kLeast, SelfCheckOptions::kThorough);
}

std::vector<PrefillPlan> SelfCheckPlans(const ModelInfo& model) {
  PrefillPlan all;
  for (size_t i = 0; i < model.prefills.size(); ++i) {
    all.chunks.push_back({.prefill = i});
  }
  return {all};
}

std::vector<int32_t> SelfCheckIds(int64_t vocab_size, int64_t count) {
  // Fibonacci hashing: multiples of 2^64 / golden ratio.
  constexpr uint64_t kStep = 0x9E3779B97F4A7C15;
  std::vector<int32_t> ids(static_cast<size_t>(count));
  uint64_t x = 0;
  for (int32_t& id : ids) {
    x += kStep;
    id = static_cast<int32_t>((x >> 32) % static_cast<uint64_t>(vocab_size));
  }
  return ids;
}

SelfCheckResult RunSelfCheck(const Model& model, Session& session,
                             std::span<const int32_t> ids,
                             const SelfCheckOptions& options) {
  Feeder feeder(model, session, ids, options);
  SelfCheckLimits limits = SelfCheckLimitsFor(model.info());
  SelfCheckResult result;
  Outcomes outcomes = MakeChecks(feeder, limits, result.checks);
  const std::vector<size_t> excused =
      FindRounding(feeder, limits, outcomes, result.checks);
  result.findings = FindFaults(feeder, limits, outcomes, result.checks);
  for (const size_t i : excused) {
    result.checks[i].outcome = Outcome::kInconclusive;
  }
  return result;
}

}  // namespace verify_tflite
