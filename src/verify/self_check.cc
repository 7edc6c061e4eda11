#include "verify/self_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "base/error.h"
#include "result/metrics.h"

namespace verify_tflite {
namespace {

using Row = std::vector<float>;

// What things cost, in decode steps; measured with SmolLM2-135M on two cores.
constexpr int64_t kPrefillTokensPerStep = 16;  // float32 16, int8 23
constexpr int64_t kCompileSteps = 20;          // float32 16, int8 17
constexpr int64_t kBuiltinSteps =
    30;  // with TFLite's kernels: float32 19, int8 33

// Of the budget, up to and including these checks.
constexpr double kPrefillShare = 0.6;
constexpr double kChunkingShare = 0.6;

double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Row Copy(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

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

// "8, 63 and 64"
std::string List(const std::vector<int64_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) text += i + 1 == numbers.size() ? " and " : ", ";
    text += fmt::format("{}", numbers[i]);
  }
  return text;
}

std::string LeftOut(const std::vector<int64_t>& tokens) {
  if (tokens.empty()) return "";
  return fmt::format(" (not compared, to save time: {})", List(tokens));
}

// Comparisons of one check.
class Tally {
 public:
  void Add(int64_t tokens, const LogitDifference& logits) {
    if (std::find(tokens_.begin(), tokens_.end(), tokens) == tokens_.end()) {
      tokens_.push_back(tokens);
    }
    finite_ = finite_ && logits.finite;
    max_abs_ = std::max(max_abs_, logits.max_abs);
    if (logits.kld < kld_ || (logits.kld == kld_ && worst_ != 0)) return;
    kld_ = logits.kld;
    rms_ = logits.rms;
    worst_ = tokens;
    flipped_ = logits.reference_token != logits.candidate_token;
  }

  bool empty() const { return tokens_.empty(); }
  bool finite() const { return finite_; }
  double kld() const { return kld_; }
  double max_abs() const { return max_abs_; }
  int64_t worst() const { return worst_; }
  std::string Tokens() const { return List(tokens_); }
  std::string Figures() const {
    if (!finite_) return "some logits are not finite";
    if (max_abs_ == 0) return "equal to the bit";
    return fmt::format(
        "KL divergence {:.2g} nats and RMS {:.2g} behind {} token{}{}, "
        "largest |logit difference| {:.2g}",
        kld_, rms_, worst_, worst_ == 1 ? "" : "s",
        flipped_ ? ", where the greedy token differs" : "", max_abs_);
  }
  // Held against a limit on the divergence.
  Check ToCheck(std::string name, const Limit& limit,
                const std::string& what) const {
    Check check;
    check.name = std::move(name);
    if (finite_) check.value = kld_;
    check.limit = limit.pass;
    check.broken_limit = limit.broken;
    check.outcome = !finite_ || !(kld_ <= limit.broken) ? Outcome::kBroken
                    : kld_ > limit.pass                 ? Outcome::kDegraded
                                                        : Outcome::kPass;
    check.detail = fmt::format("{}: {}", what, Figures());
    return check;
  }

 private:
  std::vector<int64_t> tokens_;
  bool finite_ = true;
  double kld_ = 0;
  double rms_ = 0;
  double max_abs_ = 0;
  int64_t worst_ = 0;
  bool flipped_ = false;
};

bool Failed(const Check& check) { return check.outcome > Outcome::kPass; }

class SelfChecker {
 public:
  SelfChecker(const Model& model, Session& session,
              std::span<const int32_t> ids, const SelfCheckOptions& options);
  SelfCheckResult Run();

 private:
  struct Baseline {
    Row row;
    bool decode = false;  // decode alone; else a shorter prefill
  };

  // What a text gives in some pieces.
  struct Fed {
    Row row;  // of the decode step behind it
    Row own;  // prefill's own, of the last token; empty where it has none
  };
  // Comparisons of one prefill signature.
  struct PrefillTally {
    Tally tally;
    std::vector<int64_t> left_out;
    bool against_decode = true;        // all of them
    bool differs_from_decode = false;  // some of them
  };

  int64_t Smaller(size_t prefill) const;
  bool GoesAlone(size_t prefill, int64_t tokens) const;
  std::vector<int64_t> PrefillLengths(size_t prefill) const;
  std::vector<int64_t> BoundaryLengths(int64_t boundary) const;
  std::set<int64_t> WantedRows() const;

  Row After(Session& session, KvCache& kv, std::span<const int32_t> text,
            std::span<const int64_t> pieces, Row* prefill_logits = nullptr);
  const Fed& Feed(const std::vector<int64_t>& pieces);
  std::vector<int64_t> Cut(int64_t tokens, int64_t piece) const;
  std::optional<Baseline> BaselineFor(int64_t tokens, int64_t smaller);
  LogitDifference Compare(std::span<const float> a, std::span<const float> b);

  void DecodeAlone();
  bool ComparePrefill(size_t prefill, int64_t tokens, double share);
  void ComparePrefills(bool first);
  void AddPrefill(size_t prefill);
  void CompareChunks();
  void AddChunks();
  void CheckBoundary(const std::string& name, int64_t boundary);
  void CheckStateLeak();
  void CheckThreads();
  void CheckKernels();
  void CheckKvEnd();
  bool AddFinding(const std::vector<std::string>& checks, FindingParts finding);
  void FindPrefillFault();
  void FindFaults();
  std::string Suspect();

  void Add(Check check) { result_.checks.push_back(std::move(check)); }
  void NotChecked(std::string name, std::string why);
  void TooLong(std::string name, int64_t steps);
  void Enter(const std::string& stage);
  int64_t Cost(const std::vector<int64_t>& pieces) const;
  int64_t NewCost(const std::vector<int64_t>& pieces) const;
  int64_t BaselineCost(int64_t tokens, int64_t smaller) const;
  bool Fits(int64_t steps, double share) const;
  size_t Affordable() const;

  const Model& model_;
  const ModelInfo& info_;
  Session& session_;
  const SelfCheckOptions& options_;
  const SelfCheckLimits limits_;
  std::vector<int32_t> text_;
  // As ModelInfo's; ascending order is that of the checks.
  std::vector<int64_t> lengths_;
  int64_t most_ = 0;  // tokens before a last decode step
  double step_seconds_ = 0;
  int64_t spent_ = 0;  // steps
  std::map<std::vector<int64_t>, Fed> fed_;
  std::map<int64_t, Row> decoded_;  // decode alone, by tokens before it
  // Where a prefill signature differs the most, in tokens; 0: it does not.
  std::vector<int64_t> differs_;
  std::vector<bool> matches_decode_;  // and all compared with decode alone
  std::vector<PrefillTally> prefill_tallies_;
  PrefillTally chunks_;
  bool nan_ = false;
  bool stale_entries_count_ = false;
  bool decode_is_odd_ = false;  // said by Suspect
  int64_t done_ = 0;
  SelfCheckResult result_;
};

SelfChecker::SelfChecker(const Model& model, Session& session,
                         std::span<const int32_t> ids,
                         const SelfCheckOptions& options)
    : model_(model),
      info_(model.info()),
      session_(session),
      options_(options),
      limits_(SelfCheckLimitsFor(model.info())) {
  for (const PrefillInfo& prefill : info_.prefills) {
    lengths_.push_back(prefill.length);
  }
  most_ = info_.kv_length - 1;
  differs_.resize(lengths_.size());
  matches_decode_.resize(lengths_.size());
  prefill_tallies_.resize(lengths_.size());
  text_ = SelfCheckIds(info_.vocab_size, info_.kv_length);
  std::copy_n(ids.begin(), std::min(ids.size(), text_.size()), text_.begin());
}

void SelfChecker::NotChecked(std::string name, std::string why) {
  Add({std::move(name), Outcome::kNotChecked, std::nullopt, std::nullopt,
       std::move(why)});
}

void SelfChecker::TooLong(std::string name, int64_t steps) {
  NotChecked(std::move(name),
             fmt::format("would take about {:.1f} s{}",
                         static_cast<double>(steps) * step_seconds_,
                         options_.max_steps < SelfCheckOptions::kThorough
                             ? "; verify_tflite selfcheck takes that time"
                             : ""));
}

// Of prefill in pieces and the decode step behind it, or none where it is
// known.
int64_t SelfChecker::NewCost(const std::vector<int64_t>& pieces) const {
  return fed_.contains(pieces) ? 0 : Cost(pieces);
}

int64_t SelfChecker::Cost(const std::vector<int64_t>& pieces) const {
  int64_t steps = 1;
  int64_t begin = 0;
  for (const int64_t piece : pieces) {
    const PrefillPlan plan =
        PlanPrefill(lengths_, info_.kv_length, begin, piece);
    for (const PrefillChunk& chunk : plan.chunks) {
      steps += 1 + lengths_[chunk.prefill] / kPrefillTokensPerStep;
    }
    steps += plan.decode_tail;
    begin += piece;
  }
  return steps;
}

// Whether so many more steps leave the sum within a share of the budget.
bool SelfChecker::Fits(int64_t steps, double share) const {
  return static_cast<double>(spent_ + steps) <=
         share * static_cast<double>(options_.max_steps);
}

void SelfChecker::Enter(const std::string& stage) {
  if (!options_.progress) return;
  const int64_t boundaries =
      (info_.ring_length > 0 ? 1 : 0) + (options_.window ? 1 : 0);
  options_.progress("self-check: " + stage, done_++,
                    static_cast<int64_t>(lengths_.size()) + boundaries + 6);
}

// The next shorter prefill signature's length, 0 for the shortest.
int64_t SelfChecker::Smaller(size_t prefill) const {
  return prefill + 1 < lengths_.size() ? lengths_[prefill + 1] : 0;
}

// Whether so many tokens from the first on go through just this signature.
bool SelfChecker::GoesAlone(size_t prefill, int64_t tokens) const {
  const PrefillPlan plan = PlanPrefill(lengths_, info_.kv_length, 0, tokens);
  return plan.chunks.size() == 1 && plan.chunks[0].prefill == prefill &&
         plan.decode_tail == 0;
}

// Mostly pads, one pad, none. Of the shortest signature also some tokens,
// because one alone sees nothing but itself.
std::vector<int64_t> SelfChecker::PrefillLengths(size_t prefill) const {
  const int64_t length = lengths_[prefill];
  const int64_t smaller = Smaller(prefill);
  std::set<int64_t> candidates = {smaller + 1, length - 1, length};
  if (smaller == 0) candidates.insert(std::min<int64_t>(length, 12));
  std::vector<int64_t> result;
  for (const int64_t tokens : candidates) {
    if (tokens < 1 || tokens > most_) continue;
    if (GoesAlone(prefill, tokens)) result.push_back(tokens);
  }
  return result;
}

std::vector<int64_t> SelfChecker::BoundaryLengths(int64_t boundary) const {
  std::vector<int64_t> result;
  for (int64_t tokens = boundary - 1; tokens <= boundary + 1; ++tokens) {
    if (tokens >= 1 && tokens <= most_) result.push_back(tokens);
  }
  return result;
}

// Tokens behind which decode alone is compared with something.
std::set<int64_t> SelfChecker::WantedRows() const {
  std::set<int64_t> wanted;
  const auto add = [&](const std::vector<int64_t>& lengths) {
    for (const int64_t tokens : lengths) {
      wanted.insert(tokens);
      wanted.insert(tokens - 1);  // for prefill's own logits
    }
  };
  for (size_t i = 0; i < lengths_.size(); ++i) {
    add(PrefillLengths(i));
    if (lengths_[i] + 1 <= most_) add({lengths_[i] + 1});
  }
  return wanted;
}

// The logits of the decode step behind the first tokens of `text`, prefilled in
// pieces.
Row SelfChecker::After(Session& session, KvCache& kv,
                       std::span<const int32_t> text,
                       std::span<const int64_t> pieces, Row* prefill_logits) {
  size_t at = 0;
  for (const int64_t piece : pieces) {
    const auto logits =
        session.Prefill(kv, text.subspan(at, static_cast<size_t>(piece)));
    at += static_cast<size_t>(piece);
    if (prefill_logits != nullptr) *prefill_logits = Copy(logits);
  }
  return Copy(session.Decode(kv, text[at]));
}

const SelfChecker::Fed& SelfChecker::Feed(const std::vector<int64_t>& pieces) {
  const auto known = fed_.find(pieces);
  if (known != fed_.end()) return known->second;
  spent_ += Cost(pieces);
  KvCache kv = session_.NewKvCache();
  Fed fed;
  fed.row = After(session_, kv, text_, pieces, &fed.own);
  return fed_.emplace(pieces, std::move(fed)).first->second;
}

// Pieces of so many tokens, and a rest.
std::vector<int64_t> SelfChecker::Cut(int64_t tokens, int64_t piece) const {
  std::vector<int64_t> pieces(static_cast<size_t>(tokens / piece), piece);
  if (tokens % piece > 0) pieces.push_back(tokens % piece);
  return pieces;
}

std::optional<SelfChecker::Baseline> SelfChecker::BaselineFor(int64_t tokens,
                                                              int64_t smaller) {
  const auto row = decoded_.find(tokens);
  if (row != decoded_.end()) return Baseline{row->second, true};
  if (smaller == 0) return std::nullopt;
  return Baseline{Feed(Cut(tokens, smaller)).row, false};
}

int64_t SelfChecker::BaselineCost(int64_t tokens, int64_t smaller) const {
  if (decoded_.contains(tokens) || smaller == 0) return 0;
  return NewCost(Cut(tokens, smaller));
}

LogitDifference SelfChecker::Compare(std::span<const float> a,
                                     std::span<const float> b) {
  const LogitDifference logits = verify_tflite::Compare(a, b);
  nan_ = nan_ || !logits.finite;
  return logits;
}

// Feeds the text token by token, as far as a fifth of the budget goes.
void SelfChecker::DecodeAlone() {
  Enter("decode alone");
  const std::set<int64_t> wanted = WantedRows();
  const int64_t most = options_.max_steps / 5;
  int64_t last = 0;
  for (const int64_t tokens : wanted) {
    if (tokens < most) last = tokens;
  }
  last = std::max<int64_t>(last, std::min<int64_t>(3, most_));
  KvCache kv = session_.NewKvCache();
  double steady = Now();
  for (int64_t i = 0; i <= last; ++i) {
    const auto logits = session_.Decode(kv, text_[static_cast<size_t>(i)]);
    if (wanted.contains(i)) decoded_[i] = Copy(logits);
    if (i == 0) steady = Now();  // the first run of a signature prepares it
  }
  spent_ += last + 1;
  step_seconds_ =
      (Now() - steady) / static_cast<double>(std::max<int64_t>(last, 1));
}

// Compares prefill of so many tokens through one signature with decode alone,
// or with a shorter signature where decode alone did not come that far. False
// where that does not fit into the share of the budget, or there is neither.
bool SelfChecker::ComparePrefill(size_t prefill, int64_t tokens, double share) {
  PrefillTally& to = prefill_tallies_[prefill];
  const int64_t smaller = Smaller(prefill);
  if (!decoded_.contains(tokens) && smaller == 0) return false;
  if (!Fits(NewCost({tokens}) + BaselineCost(tokens, smaller), share)) {
    return false;
  }
  const Fed& fed = Feed({tokens});
  const auto baseline = BaselineFor(tokens, smaller);
  const LogitDifference logits = Compare(baseline->row, fed.row);
  to.tally.Add(tokens, logits);
  to.against_decode = to.against_decode && baseline->decode;
  to.differs_from_decode =
      to.differs_from_decode ||
      (baseline->decode && !(logits.kld <= limits_.kld.pass));
  const auto own_row = decoded_.find(tokens - 1);
  if (!fed.own.empty() && own_row != decoded_.end()) {
    to.tally.Add(tokens, Compare(own_row->second, fed.own));
  }
  return true;
}

// The first length of every signature, or all others as far as they fit.
void SelfChecker::ComparePrefills(bool first) {
  for (size_t i = lengths_.size(); i-- > 0;) {
    if (first) Enter(info_.prefills[i].name);
    const std::vector<int64_t> lengths = PrefillLengths(i);
    for (size_t k = 0; k < lengths.size(); ++k) {
      if ((k == 0) != first) continue;
      if (!ComparePrefill(i, lengths[k], first ? 1 : kPrefillShare)) {
        prefill_tallies_[i].left_out.push_back(lengths[k]);
      }
    }
  }
}

void SelfChecker::AddPrefill(size_t prefill) {
  const PrefillTally& of = prefill_tallies_[prefill];
  const std::string& name = info_.prefills[prefill].name;
  if (of.tally.empty() && of.left_out.empty()) {
    return NotChecked(name,
                      "no number of tokens goes through this signature alone");
  }
  if (of.tally.empty()) {
    return TooLong(name, of.left_out.front() + Cost({of.left_out.front()}));
  }
  Check check = of.tally.ToCheck(
      name, limits_.kld,
      fmt::format(
          "the decode step behind {} prefilled tokens, against {}{}",
          of.tally.Tokens(),
          of.against_decode ? "decode alone" : "a shorter prefill or decode",
          LeftOut(of.left_out)));
  if (Failed(check)) differs_[prefill] = of.tally.worst();
  matches_decode_[prefill] = of.against_decode && !Failed(check);
  Add(std::move(check));
}

// A chunk of each signature behind a first token, one token past the longest,
// and the chunks that production makes of a longer prompt.
void SelfChecker::CompareChunks() {
  Enter("chunking");
  const auto compare = [&](const std::vector<int64_t>& pieces,
                           const std::vector<int64_t>& others) {
    const int64_t tokens =
        std::accumulate(pieces.begin(), pieces.end(), int64_t{0});
    if (tokens > most_ || pieces == others) return;
    const auto decoded = decoded_.find(tokens);
    const bool known = decoded != decoded_.end();
    const int64_t steps = NewCost(pieces) + (known ? 0 : NewCost(others));
    if (!Fits(steps, kChunkingShare)) {
      if (chunks_.left_out.empty() || chunks_.left_out.back() != tokens) {
        chunks_.left_out.push_back(tokens);
      }
      return;
    }
    const Row& baseline = known ? decoded->second : Feed(others).row;
    chunks_.tally.Add(tokens, Compare(baseline, Feed(pieces).row));
  };
  for (size_t i = lengths_.size(); i-- > 0;) {
    compare({1, lengths_[i]}, {1 + lengths_[i]});
  }
  const int64_t smaller = Smaller(0);
  const int64_t past = lengths_[0] + 1;
  compare({past}, {1, lengths_[0]});
  // The rest of a long prompt goes through the signature that holds it.
  const int64_t tokens = lengths_[0] + std::max<int64_t>(smaller - 1, 2);
  if (tokens > most_) return;
  compare({tokens}, smaller > 0 ? Cut(tokens, smaller)
                                : std::vector<int64_t>{3, tokens - 3});
}

void SelfChecker::AddChunks() {
  const Tally& tally = chunks_.tally;
  if (tally.empty() && !chunks_.left_out.empty()) {
    return TooLong("chunking", 2 * Cost({chunks_.left_out.front()}));
  }
  if (tally.empty()) {
    return NotChecked("chunking", "the KV cache holds no more than one chunk");
  }
  Add(tally.ToCheck("chunking", limits_.kld,
                    fmt::format("{} tokens in several chunks, against others "
                                "or decode alone{}",
                                tally.Tokens(), LeftOut(chunks_.left_out))));
}

// One below, at and past a boundary of attention: prefilled, against decode of
// the last tokens before it.
void SelfChecker::CheckBoundary(const std::string& name, int64_t boundary) {
  Enter(name);
  constexpr int64_t kDecoded = 8;
  const std::vector<int64_t> lengths = BoundaryLengths(boundary);
  if (lengths.empty()) {
    return NotChecked(name, "the KV cache ends before it");
  }
  const int64_t begin = std::max<int64_t>(boundary - kDecoded, 0);
  const int64_t decode_steps = Cost({begin}) + lengths.back() - begin;
  int64_t steps = decode_steps;
  for (const int64_t tokens : lengths) steps += NewCost({tokens});
  if (!Fits(steps, 1)) return TooLong(name, steps);
  spent_ += decode_steps;
  KvCache kv = session_.NewKvCache();
  session_.Prefill(kv, std::span(text_).first(static_cast<size_t>(begin)));
  Tally tally;
  for (int64_t at = begin; at <= lengths.back(); ++at) {
    // A copy, because Feed runs the same signature.
    const Row row = Copy(session_.Decode(kv, text_[static_cast<size_t>(at)]));
    if (at < lengths.front()) continue;
    tally.Add(at, Compare(row, Feed({at}).row));
  }
  Add(tally.ToCheck(
      name, limits_.kld,
      fmt::format("{} prefilled tokens, against decode from token {} on",
                  tally.Tokens(), begin)));
}

// The longest signature that takes a small part of the budget.
size_t SelfChecker::Affordable() const {
  for (size_t i = 0; i < lengths_.size(); ++i) {
    if (lengths_[i] > most_) continue;
    if (Cost({lengths_[i]}) <= options_.max_steps / 20) return i;
  }
  return lengths_.size() - 1;
}

void SelfChecker::CheckStateLeak() {
  Enter("state leak");
  const size_t prefill = Affordable();
  const int64_t tokens = std::min(lengths_[prefill], most_);
  const std::vector<int64_t> pieces = {tokens};
  std::vector<int32_t> other(text_.rbegin(), text_.rend());
  const Row& first = Feed(pieces).row;
  KvCache used = session_.NewKvCache();
  After(session_, used, other, pieces);
  KvCache new_cache = session_.NewKvCache();
  const Row fresh = After(session_, new_cache, text_, pieces);
  used.Truncate(0);
  const Row again = After(session_, used, text_, pieces);
  spent_ += 3 * Cost(pieces);
  Tally tally;
  tally.Add(tokens, Compare(first, fresh));
  tally.Add(tokens, Compare(first, again));
  Check check;
  check.name = "state_leak";
  const bool equal = first == fresh && first == again;
  stale_entries_count_ = first == fresh && first != again;
  check.outcome = equal ? Outcome::kPass : Outcome::kBroken;
  check.value = tally.max_abs();
  check.limit = 0;
  check.detail = fmt::format(
      "{0} tokens, other {0}, and the first again, in a fresh KV cache and in "
      "the used one: {1}",
      tokens, tally.Figures());
  Add(std::move(check));
}

void SelfChecker::CheckThreads() {
  Enter("threads");
  const int other = options_.num_threads == 1 ? 2 : 1;
  const size_t prefill = Affordable();
  const int64_t tokens = std::min(lengths_[prefill], most_);
  const std::vector<int64_t> pieces = {tokens};
  const int64_t steps = kCompileSteps + Cost(pieces) + NewCost(pieces);
  if (!Fits(steps, 1)) return TooLong("threads", steps);
  spent_ += kCompileSteps + Cost(pieces);
  const PrefillPlan plan = PlanPrefill(lengths_, info_.kv_length, 0, tokens);
  Session session = Session::Create(model_, {&plan, 1}, {.num_threads = other});
  KvCache kv = session.NewKvCache();
  Tally tally;
  tally.Add(tokens,
            Compare(Feed(pieces).row, After(session, kv, text_, pieces)));
  Add(tally.ToCheck(
      "threads", limits_.kld,
      fmt::format("{} tokens and a decode step with {} thread{} "
                  "and with {}",
                  tokens, other, other == 1 ? "" : "s", options_.num_threads)));
}

// Decode steps behind a prefix that XNNPACK fed: both kernels see the same KV
// caches, so that differences do not add up.
void SelfChecker::CheckKernels() {
  Enter("kernels");
  int64_t steps = 3;
  while (steps > 1 && !Fits(steps * kBuiltinSteps, 1)) --steps;
  if (!Fits(steps * kBuiltinSteps, 1)) {
    return TooLong("kernels", steps * kBuiltinSteps);
  }
  spent_ += steps * kBuiltinSteps;
  Tally tally;
  try {
    Session builtin = Session::Create(
        model_, {},
        {.num_threads = options_.num_threads, .kernels = Kernels::kBuiltin});
    KvCache kv = session_.NewKvCache();
    const int64_t prefix =
        std::min<int64_t>(lengths_.back(), std::max<int64_t>(most_ - steps, 0));
    session_.Prefill(kv, std::span(text_).first(static_cast<size_t>(prefix)));
    for (int64_t at = prefix; at < prefix + steps && at <= most_; ++at) {
      const int32_t token = text_[static_cast<size_t>(at)];
      const Row row = Copy(builtin.Decode(kv, token));
      kv.Truncate(at);
      tally.Add(at, Compare(session_.Decode(kv, token), row));
    }
  } catch (const Error& e) {
    return NotChecked("kernels", e.what());
  }
  Check check = tally.ToCheck(
      "kernels", limits_.kernels,
      fmt::format(
          "XNNPACK against TFLite's own kernels, decode steps behind {} "
          "tokens",
          tally.Tokens()));
  // Production runs XNNPACK, and which of the two is wrong shows in a
  // comparison with the checkpoint alone.
  if (Failed(check) && tally.finite()) check.outcome = Outcome::kInconclusive;
  Add(std::move(check));
}

// The last positions of the KV cache, through the shortest prefill signature
// and through decode.
void SelfChecker::CheckKvEnd() {
  Enter("end of the KV cache");
  const auto at = std::find_if(lengths_.rbegin(), lengths_.rend(),
                               [](int64_t length) { return length > 1; });
  if (at == lengths_.rend() || *at > info_.kv_length) {
    return NotChecked("kv_end", "no prefill signature reaches the end");
  }
  const int64_t length = *at;
  const int64_t begin = info_.kv_length - length;
  const int64_t steps = Cost({begin}) + 2 * length;
  if (!Fits(steps, 1)) return TooLong("kv_end", steps);
  spent_ += steps;
  const std::span<const int32_t> text(text_);
  const auto prefix = text.first(static_cast<size_t>(begin));
  const auto rest = text.subspan(static_cast<size_t>(begin));
  KvCache kv = session_.NewKvCache();
  session_.Prefill(kv, prefix);
  const std::vector<int64_t> pieces = {length - 1};
  const Row prefilled = After(session_, kv, rest, pieces);
  kv.Truncate(begin);
  for (const int32_t token : rest.first(rest.size() - 1)) {
    session_.Decode(kv, token);
  }
  Tally tally;
  tally.Add(most_, Compare(session_.Decode(kv, rest.back()), prefilled));
  Add(tally.ToCheck("kv_end", limits_.kld,
                    fmt::format("the last {} positions through prefill and "
                                "through decode",
                                length)));
}

// Which side of a difference between prefill and decode is the odd one out: of
// prefill, a shorter prefill and decode, given the same tokens.
std::string SelfChecker::Suspect() {
  if (stale_entries_count_) {
    return "A mask that lets tokens see entries behind them: what an earlier "
           "prompt left in the KV cache changes the logits.";
  }
  std::vector<std::string> odd;
  bool decode_is_odd = false;
  bool longer_matches = false;
  for (size_t i = 0; i < lengths_.size(); ++i) {  // descending
    longer_matches = longer_matches || matches_decode_[i];
    const int64_t tokens = differs_[i];
    if (tokens == 0) continue;
    const std::string& name = info_.prefills[i].name;
    const auto decoded = decoded_.find(tokens);
    if (Smaller(i) == 0 || decoded == decoded_.end()) {
      // Nothing else to compare it with at so many tokens.
      if (longer_matches) {
        odd.push_back(name);
      } else if (!decode_is_odd) {
        return "";
      }
      continue;
    }
    const auto agree = [&](const Row& a, const Row& b) {
      return Compare(a, b).kld <= limits_.kld.pass;
    };
    const Row& shorter = Feed(Cut(tokens, Smaller(i))).row;
    if (agree(shorter, Feed({tokens}).row)) {
      decode_is_odd = true;
    } else if (agree(shorter, decoded->second)) {
      odd.push_back(name);
    } else {
      return "";
    }
  }
  if (decode_is_odd == !odd.empty()) return "";
  decode_is_odd_ = decode_is_odd;
  return fmt::format(
      "The weights, mask or positions of {} alone.",
      decode_is_odd ? "decode" : fmt::format("{}", fmt::join(odd, ", ")));
}

// Adds `finding` with the details of those of `checks` that failed; false where
// none did.
bool SelfChecker::AddFinding(const std::vector<std::string>& checks,
                             FindingParts finding) {
  finding.severity = Outcome::kNotChecked;
  for (const Check& check : result_.checks) {
    if (!Failed(check) ||
        std::find(checks.begin(), checks.end(), check.name) == checks.end()) {
      continue;
    }
    if (!finding.evidence.empty()) finding.evidence += '\n';
    finding.evidence += check.name + ": " + check.detail;
    finding.severity = std::max(finding.severity, check.outcome);
  }
  if (finding.evidence.empty()) return false;
  result_.findings.push_back(MakeFinding(std::move(finding)));
  return true;
}

// Prefill, chunks and boundaries: one finding, the first that explains the
// others.
void SelfChecker::FindPrefillFault() {
  std::vector<std::string> prefills;
  bool differs = false;
  bool differs_from_decode = false;
  for (size_t i = 0; i < lengths_.size(); ++i) {
    prefills.push_back(info_.prefills[i].name);
    differs = differs || differs_[i] > 0;
    differs_from_decode =
        differs_from_decode || prefill_tallies_[i].differs_from_decode;
  }
  const bool chunks_differ = !(chunks_.tally.kld() <= limits_.kld.pass);
  if (differs && (differs_from_decode || !chunks_differ)) {
    const std::string cause = Suspect();
    AddFinding(prefills, {.id = decode_is_odd_ ? FindingId::kDecodeDiffers
                                               : FindingId::kPrefillDiffers,
                          .sentence = "Prefill and decode compute different "
                                      "things: what the model makes of a "
                                      "prompt depends on its length.",
                          .cause = cause});
    return;
  }
  // A shorter prefill, which others were compared with, is in several chunks.
  prefills.push_back("chunking");
  if (AddFinding(prefills, {.id = FindingId::kChunking})) return;
  AddFinding({"ring", "window", "kv_end"}, {.id = FindingId::kKvBoundary});
}

void SelfChecker::FindFaults() {
  if (nan_) {
    result_.findings.push_back(MakeFinding(
        {.id = FindingId::kNan,
         .evidence =
             "NaN or infinite logits while it was compared with itself"}));
    return;
  }
  FindPrefillFault();
  const bool mask = stale_entries_count_ && !result_.findings.empty() &&
                    result_.findings.front().id == FindingId::kPrefillDiffers;
  if (!mask) {  // else said there
    AddFinding({"state_leak"},
               {.id = FindingId::kStateLeak,
                .cause = stale_entries_count_
                             ? "Attention sees entries of the KV cache behind "
                               "the last token."
                             : "The graph keeps state outside the KV caches."});
  }
  AddFinding({"threads"}, {.id = FindingId::kThreadsDiffer});
  AddFinding({"kernels"}, {.id = FindingId::kKernelDiffers});
}

SelfCheckResult SelfChecker::Run() {
  DecodeAlone();
  ComparePrefills(true);
  CompareChunks();
  ComparePrefills(false);
  for (size_t i = lengths_.size(); i-- > 0;) AddPrefill(i);
  AddChunks();
  if (info_.ring_length > 0) CheckBoundary("ring", info_.ring_length);
  if (options_.window && *options_.window != info_.ring_length) {
    CheckBoundary("window", *options_.window);
  }
  CheckStateLeak();
  CheckThreads();
  CheckKvEnd();
  CheckKernels();
  FindFaults();
  return std::move(result_);
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
  return SelfChecker(model, session, ids, options).Run();
}

}  // namespace verify_tflite
