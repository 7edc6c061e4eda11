#include "verify/self_check/comparisons.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "candidate/prefill_plan.h"

namespace verify_tflite {
namespace {

// What things cost, in decode steps; measured with SmolLM2-135M on two cores.
constexpr int64_t kCompileSteps = 20;  // float32 16, int8 17
// With TFLite's own kernels: float32 19, int8 33.
constexpr int64_t kBuiltinSteps = 30;

// Of the budget, up to and including these checks.
constexpr double kPrefillShare = 0.6;
constexpr double kChunkingShare = 0.6;

// Whether so many tokens from the first on go through just this signature.
bool GoesAlone(const Feeder& feeder, size_t prefill, int64_t tokens) {
  const PrefillPlan plan =
      PlanPrefill(feeder.lengths(), feeder.info().kv_length, 0, tokens);
  return plan.chunks.size() == 1 && plan.chunks[0].prefill == prefill &&
         plan.decode_tail == 0;
}

// Mostly pads, one pad, none. Of the shortest signature also some tokens,
// because one alone sees nothing but itself.
std::vector<int64_t> PrefillLengths(const Feeder& feeder, size_t prefill) {
  const int64_t length = feeder.lengths()[prefill];
  const int64_t smaller = feeder.Smaller(prefill);
  std::set<int64_t> candidates = {smaller + 1, length - 1, length};
  if (smaller == 0) candidates.insert(std::min<int64_t>(length, 12));
  std::vector<int64_t> result;
  for (const int64_t tokens : candidates) {
    if (tokens < 1 || tokens > feeder.most()) continue;
    if (GoesAlone(feeder, prefill, tokens)) result.push_back(tokens);
  }
  return result;
}

std::vector<int64_t> BoundaryLengths(const Feeder& feeder, int64_t boundary) {
  std::vector<int64_t> result;
  for (int64_t tokens = boundary - 1; tokens <= boundary + 1; ++tokens) {
    if (tokens >= 1 && tokens <= feeder.most()) result.push_back(tokens);
  }
  return result;
}

struct Baseline {
  Logits row;
  bool decode = false;  // decode alone; else a shorter prefill
};

// Returns what so many tokens are compared with; none where there is neither
// decode alone nor a shorter signature.
std::optional<Baseline> BaselineFor(Feeder& feeder, int64_t tokens,
                                    int64_t smaller) {
  if (const Logits* row = feeder.Decoded(tokens)) return Baseline{*row, true};
  if (smaller == 0) return std::nullopt;
  return Baseline{feeder.Feed(Cut(tokens, smaller)).row, false};
}

int64_t BaselineCost(const Feeder& feeder, int64_t tokens, int64_t smaller) {
  if (feeder.Decoded(tokens) != nullptr || smaller == 0) return 0;
  return feeder.NewCost(Cut(tokens, smaller));
}

// Compares prefill of so many tokens through one signature. Returns false where
// that does not fit into the share of the budget, or there is nothing to
// compare with.
bool CompareAt(Feeder& feeder, const SelfCheckLimits& limits, size_t prefill,
               int64_t tokens, double share, PrefillTally& to) {
  const int64_t smaller = feeder.Smaller(prefill);
  if (feeder.Decoded(tokens) == nullptr && smaller == 0) return false;
  const int64_t steps =
      feeder.NewCost({tokens}) + BaselineCost(feeder, tokens, smaller);
  if (!feeder.Fits(steps, share)) return false;
  const Fed& fed = feeder.Feed({tokens});
  const auto baseline = BaselineFor(feeder, tokens, smaller);
  const LogitDifference logits = feeder.Compare(baseline->row, fed.row);
  to.tally.Add(tokens, logits);
  to.against_decode = to.against_decode && baseline->decode;
  to.differs_from_decode =
      to.differs_from_decode ||
      (baseline->decode && !(logits.kld <= limits.kld.pass));
  const Logits* own_row = feeder.Decoded(tokens - 1);
  if (!fed.own.empty() && own_row != nullptr) {
    to.tally.Add(tokens, feeder.Compare(*own_row, fed.own));
  }
  return true;
}

}  // namespace

std::set<int64_t> WantedRows(const Feeder& feeder) {
  std::set<int64_t> wanted;
  const auto add = [&](const std::vector<int64_t>& lengths) {
    for (const int64_t tokens : lengths) {
      wanted.insert(tokens);
      wanted.insert(tokens - 1);  // for prefill's own logits
    }
  };
  for (size_t i = 0; i < feeder.lengths().size(); ++i) {
    add(PrefillLengths(feeder, i));
    if (feeder.lengths()[i] + 1 <= feeder.most())
      add({feeder.lengths()[i] + 1});
  }
  return wanted;
}

void ComparePrefill(Feeder& feeder, const SelfCheckLimits& limits,
                    size_t prefill, bool first, PrefillTally& tally) {
  const std::vector<int64_t> lengths = PrefillLengths(feeder, prefill);
  for (size_t k = 0; k < lengths.size(); ++k) {
    if ((k == 0) != first) continue;
    if (!CompareAt(feeder, limits, prefill, lengths[k],
                   first ? 1 : kPrefillShare, tally)) {
      tally.left_out.push_back(lengths[k]);
    }
  }
}

Check PrefillCheck(const Feeder& feeder, const SelfCheckLimits& limits,
                   size_t prefill, const PrefillTally& of) {
  const std::string& name = feeder.info().prefills[prefill].name;
  if (of.tally.empty() && of.left_out.empty()) {
    return Feeder::NotChecked(
        name, "no number of tokens goes through this signature alone");
  }
  if (of.tally.empty()) {
    const int64_t tokens = of.left_out.front();
    return feeder.TooLong(name, tokens + feeder.Cost({tokens}));
  }
  return of.tally.ToCheck(
      name, limits.kld,
      fmt::format(
          "the decode step behind {} prefilled tokens, against {}{}",
          of.tally.Tokens(),
          of.against_decode ? "decode alone" : "a shorter prefill or decode",
          LeftOut(of.left_out)));
}

PrefillTally CompareChunks(Feeder& feeder) {
  PrefillTally chunks;
  const auto compare = [&](const std::vector<int64_t>& pieces,
                           const std::vector<int64_t>& others) {
    const int64_t tokens =
        std::accumulate(pieces.begin(), pieces.end(), int64_t{0});
    if (tokens > feeder.most() || pieces == others) return;
    const Logits* decoded = feeder.Decoded(tokens);
    const bool known = decoded != nullptr;
    const int64_t steps =
        feeder.NewCost(pieces) + (known ? 0 : feeder.NewCost(others));
    if (!feeder.Fits(steps, kChunkingShare)) {
      if (chunks.left_out.empty() || chunks.left_out.back() != tokens) {
        chunks.left_out.push_back(tokens);
      }
      return;
    }
    const Logits& baseline = known ? *decoded : feeder.Feed(others).row;
    chunks.tally.Add(tokens, feeder.Compare(baseline, feeder.Feed(pieces).row));
  };
  for (size_t i = feeder.lengths().size(); i-- > 0;) {
    compare({1, feeder.lengths()[i]}, {1 + feeder.lengths()[i]});
  }
  const int64_t smaller = feeder.Smaller(0);
  const int64_t past = feeder.lengths()[0] + 1;
  compare({past}, {1, feeder.lengths()[0]});
  // The rest of a long prompt goes through the signature that holds it.
  const int64_t tokens =
      feeder.lengths()[0] + std::max<int64_t>(smaller - 1, 2);
  if (tokens > feeder.most()) return chunks;
  compare({tokens}, smaller > 0 ? Cut(tokens, smaller)
                                : std::vector<int64_t>{3, tokens - 3});
  return chunks;
}

Check ChunksCheck(const Feeder& feeder, const SelfCheckLimits& limits,
                  const PrefillTally& chunks) {
  const Tally& tally = chunks.tally;
  if (tally.empty() && !chunks.left_out.empty()) {
    return feeder.TooLong("chunking",
                          2 * feeder.Cost({chunks.left_out.front()}));
  }
  if (tally.empty()) {
    return Feeder::NotChecked("chunking",
                              "the KV cache holds no more than one chunk");
  }
  return tally.ToCheck("chunking", limits.kld,
                       fmt::format("{} tokens in several chunks, against "
                                   "others or decode alone{}",
                                   tally.Tokens(), LeftOut(chunks.left_out)));
}

Check CheckBoundary(Feeder& feeder, const SelfCheckLimits& limits,
                    const std::string& name, int64_t boundary) {
  constexpr int64_t kDecoded = 8;
  const std::vector<int64_t> lengths = BoundaryLengths(feeder, boundary);
  if (lengths.empty()) {
    return feeder.NotChecked(name, "the KV cache ends before it");
  }
  const int64_t begin = std::max<int64_t>(boundary - kDecoded, 0);
  const int64_t decode_steps = feeder.Cost({begin}) + lengths.back() - begin;
  int64_t steps = decode_steps;
  for (const int64_t tokens : lengths) steps += feeder.NewCost({tokens});
  if (!feeder.Fits(steps, 1)) return feeder.TooLong(name, steps);
  feeder.Spend(decode_steps);
  KvCache kv = feeder.session().NewKvCache();
  feeder.session().Prefill(
      kv, std::span(feeder.text()).first(static_cast<size_t>(begin)));
  Tally tally;
  for (int64_t at = begin; at <= lengths.back(); ++at) {
    // A copy, because Feed runs the same signature.
    const Logits row = Copy(
        feeder.session().Decode(kv, feeder.text()[static_cast<size_t>(at)]));
    if (at < lengths.front()) continue;
    tally.Add(at, feeder.Compare(row, feeder.Feed({at}).row));
  }
  return tally.ToCheck(
      name, limits.kld,
      fmt::format("{} prefilled tokens, against decode from token {} on",
                  tally.Tokens(), begin));
}

StateLeak CheckStateLeak(Feeder& feeder) {
  const size_t prefill = feeder.Affordable();
  const int64_t tokens = std::min(feeder.lengths()[prefill], feeder.most());
  const std::vector<int64_t> pieces = {tokens};
  std::vector<int32_t> other(feeder.text().rbegin(), feeder.text().rend());
  const Logits& first = feeder.Feed(pieces).row;
  KvCache used = feeder.session().NewKvCache();
  Feeder::After(feeder.session(), used, other, pieces);
  KvCache new_cache = feeder.session().NewKvCache();
  const Logits fresh =
      Feeder::After(feeder.session(), new_cache, feeder.text(), pieces);
  used.Truncate(0);
  const Logits again =
      Feeder::After(feeder.session(), used, feeder.text(), pieces);
  feeder.Spend(3 * feeder.Cost(pieces));
  Tally tally;
  tally.Add(tokens, feeder.Compare(first, fresh));
  tally.Add(tokens, feeder.Compare(first, again));
  Check check;
  check.name = "state_leak";
  const bool equal = first == fresh && first == again;
  const bool stale = first == fresh && first != again;
  check.outcome = equal ? Outcome::kPass : Outcome::kBroken;
  check.value = tally.max_abs();
  check.limit = 0;
  check.detail = fmt::format(
      "{0} tokens, other {0}, and the first again, in a fresh KV cache and in "
      "the used one: {1}",
      tokens, tally.Figures());
  return {std::move(check), stale};
}

Check CheckThreads(Feeder& feeder, const SelfCheckLimits& limits) {
  const int other = feeder.options().num_threads == 1 ? 2 : 1;
  const size_t prefill = feeder.Affordable();
  const int64_t tokens = std::min(feeder.lengths()[prefill], feeder.most());
  const std::vector<int64_t> pieces = {tokens};
  const int64_t steps =
      kCompileSteps + feeder.Cost(pieces) + feeder.NewCost(pieces);
  if (!feeder.Fits(steps, 1)) return feeder.TooLong("threads", steps);
  feeder.Spend(kCompileSteps + feeder.Cost(pieces));
  const PrefillPlan plan =
      PlanPrefill(feeder.lengths(), feeder.info().kv_length, 0, tokens);
  Session session =
      Session::Create(feeder.model(), {&plan, 1}, {.num_threads = other});
  KvCache kv = session.NewKvCache();
  Tally tally;
  tally.Add(tokens,
            feeder.Compare(feeder.Feed(pieces).row,
                           Feeder::After(session, kv, feeder.text(), pieces)));
  return tally.ToCheck(
      "threads", limits.kld,
      fmt::format("{} tokens and a decode step with {} thread{} "
                  "and with {}",
                  tokens, other, other == 1 ? "" : "s",
                  feeder.options().num_threads));
}

Check CheckKernels(Feeder& feeder, const SelfCheckLimits& limits) {
  int64_t steps = 3;
  while (steps > 1 && !feeder.Fits(steps * kBuiltinSteps, 1)) --steps;
  if (!feeder.Fits(steps * kBuiltinSteps, 1)) {
    return feeder.TooLong("kernels", steps * kBuiltinSteps);
  }
  feeder.Spend(steps * kBuiltinSteps);
  Tally tally;
  try {
    Session builtin =
        Session::Create(feeder.model(), {},
                        {.num_threads = feeder.options().num_threads,
                         .kernels = Kernels::kBuiltin});
    KvCache kv = feeder.session().NewKvCache();
    const int64_t prefix = std::min<int64_t>(
        feeder.lengths().back(), std::max<int64_t>(feeder.most() - steps, 0));
    feeder.session().Prefill(
        kv, std::span(feeder.text()).first(static_cast<size_t>(prefix)));
    for (int64_t at = prefix; at < prefix + steps && at <= feeder.most();
         ++at) {
      const int32_t token = feeder.text()[static_cast<size_t>(at)];
      const Logits row = Copy(builtin.Decode(kv, token));
      kv.Truncate(at);
      tally.Add(at, feeder.Compare(feeder.session().Decode(kv, token), row));
    }
  } catch (const Error& e) {
    return feeder.NotChecked("kernels", e.what());
  }
  Check check = tally.ToCheck(
      "kernels", limits.kernels,
      fmt::format(
          "XNNPACK against TFLite's own kernels, decode steps behind {} "
          "tokens",
          tally.Tokens()));
  // Production runs XNNPACK, and which of the two is wrong shows in a
  // comparison with the checkpoint alone.
  if (Failed(check) && tally.finite()) check.outcome = Outcome::kInconclusive;
  return check;
}

Check CheckKvEnd(Feeder& feeder, const SelfCheckLimits& limits) {
  const auto at =
      std::find_if(feeder.lengths().rbegin(), feeder.lengths().rend(),
                   [](int64_t length) { return length > 1; });
  if (at == feeder.lengths().rend() || *at > feeder.info().kv_length) {
    return feeder.NotChecked("kv_end", "no prefill signature reaches the end");
  }
  const int64_t length = *at;
  const int64_t begin = feeder.info().kv_length - length;
  const int64_t steps = feeder.Cost({begin}) + 2 * length;
  if (!feeder.Fits(steps, 1)) return feeder.TooLong("kv_end", steps);
  feeder.Spend(steps);
  const std::span<const int32_t> text(feeder.text());
  const auto prefix = text.first(static_cast<size_t>(begin));
  const auto rest = text.subspan(static_cast<size_t>(begin));
  KvCache kv = feeder.session().NewKvCache();
  feeder.session().Prefill(kv, prefix);
  const std::vector<int64_t> pieces = {length - 1};
  const Logits prefilled = Feeder::After(feeder.session(), kv, rest, pieces);
  kv.Truncate(begin);
  for (const int32_t token : rest.first(rest.size() - 1)) {
    feeder.session().Decode(kv, token);
  }
  Tally tally;
  tally.Add(
      feeder.most(),
      feeder.Compare(feeder.session().Decode(kv, rest.back()), prefilled));
  return tally.ToCheck("kv_end", limits.kld,
                       fmt::format("the last {} positions through prefill and "
                                   "through decode",
                                   length));
}

}  // namespace verify_tflite
