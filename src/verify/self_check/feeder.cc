#include "verify/self_check/feeder.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "candidate/prefill_plan.h"

namespace verify_tflite {
namespace {

// Measured with SmolLM2-135M on two cores: float32 16, int8 23.
constexpr int64_t kPrefillTokensPerStep = 16;

double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Logits Copy(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

Feeder::Feeder(const Model& model, Session& session,
               std::span<const int32_t> ids, const SelfCheckOptions& options)
    : model_(model), session_(session), options_(options) {
  for (const PrefillInfo& prefill : info().prefills) {
    lengths_.push_back(prefill.length);
  }
  text_ = SelfCheckIds(info().vocab_size, info().kv_length);
  std::copy_n(ids.begin(), std::min(ids.size(), text_.size()), text_.begin());
  // A pad is no text.
  if (const auto pad = info().pad_token) {
    std::ranges::replace(text_, *pad,
                         static_cast<int32_t>((*pad + 1) % info().vocab_size));
  }
}

int64_t Feeder::Smaller(size_t prefill) const {
  return prefill + 1 < lengths_.size() ? lengths_[prefill + 1] : 0;
}

size_t Feeder::Affordable() const {
  for (size_t i = 0; i < lengths_.size(); ++i) {
    if (lengths_[i] > most()) continue;
    if (Cost({lengths_[i]}) <= options_.max_steps / 20) return i;
  }
  return lengths_.size() - 1;
}

int64_t Feeder::Cost(const std::vector<int64_t>& pieces) const {
  int64_t steps = 1;
  int64_t begin = 0;
  for (const int64_t piece : pieces) {
    const PrefillPlan plan =
        PlanPrefill(lengths_, info().kv_length, begin, piece);
    for (const PrefillChunk& chunk : plan.chunks) {
      steps += 1 + lengths_[chunk.prefill] / kPrefillTokensPerStep;
    }
    steps += plan.decode_tail;
    begin += piece;
  }
  return steps;
}

int64_t Feeder::NewCost(const std::vector<int64_t>& pieces) const {
  return fed_.contains(pieces) ? 0 : Cost(pieces);
}

bool Feeder::Fits(int64_t steps, double share) const {
  return static_cast<double>(spent_ + steps) <=
         share * static_cast<double>(options_.max_steps);
}

const Fed& Feeder::Feed(const std::vector<int64_t>& pieces) {
  const auto known = fed_.find(pieces);
  if (known != fed_.end()) return known->second;
  spent_ += Cost(pieces);
  KvCache kv = session_.NewKvCache();
  Fed fed;
  fed.row = After(session_, kv, text_, pieces, &fed.own);
  return fed_.emplace(pieces, std::move(fed)).first->second;
}

Logits Feeder::After(Session& session, KvCache& kv,
                     std::span<const int32_t> text,
                     std::span<const int64_t> pieces, Logits* prefill_logits) {
  size_t at = 0;
  for (const int64_t piece : pieces) {
    const auto logits =
        session.Prefill(kv, text.subspan(at, static_cast<size_t>(piece)));
    at += static_cast<size_t>(piece);
    if (prefill_logits != nullptr) *prefill_logits = Copy(logits);
  }
  return Copy(session.Decode(kv, text[at]));
}

void Feeder::DecodeAlone(const std::set<int64_t>& wanted) {
  const int64_t limit = options_.max_steps / 5;
  int64_t last = 0;
  for (const int64_t tokens : wanted) {
    if (tokens < limit) last = tokens;
  }
  last = std::max<int64_t>(last, std::min<int64_t>(3, most()));
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

const Logits* Feeder::Decoded(int64_t tokens) const {
  const auto row = decoded_.find(tokens);
  return row == decoded_.end() ? nullptr : &row->second;
}

double Feeder::DecodeWithMovedBits() {
  const int64_t count = std::min(most(), options_.max_steps / 10);
  KvCache plain = session_.NewKvCache();
  KvCache moved = session_.NewKvCache();
  LastBits bits;
  double most_kld = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t token = text_[static_cast<size_t>(i)];
    // A copy, because the same signature runs next.
    const Logits row = Copy(session_.Decode(plain, token));
    most_kld =
        std::max(most_kld, Compare(row, session_.Decode(moved, token)).kld);
    if (!session_.MoveLastBits(moved, bits)) return 0;
  }
  spent_ += 2 * count;
  return most_kld;
}

LogitDifference Feeder::Compare(std::span<const float> a,
                                std::span<const float> b) {
  const LogitDifference logits = verify_tflite::Compare(a, b);
  nan_ = nan_ || !logits.finite;
  return logits;
}

Check Feeder::NotChecked(std::string name, std::string why) {
  return {std::move(name), Outcome::kNotChecked, std::nullopt, std::nullopt,
          std::move(why)};
}

Check Feeder::TooLong(std::string name, int64_t steps) const {
  return NotChecked(
      std::move(name),
      fmt::format("would take about {:.1f} s{}",
                  static_cast<double>(steps) * step_seconds_,
                  options_.max_steps < SelfCheckOptions::kThorough
                      ? "; verify_tflite selfcheck takes that time"
                      : ""));
}

std::vector<int64_t> Cut(int64_t tokens, int64_t piece) {
  std::vector<int64_t> pieces(static_cast<size_t>(tokens / piece), piece);
  if (tokens % piece > 0) pieces.push_back(tokens % piece);
  return pieces;
}

}  // namespace verify_tflite
