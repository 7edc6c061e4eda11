#include "verify/self_check/tally.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace verify_tflite {
namespace {

// "8, 63 and 64"
std::string List(const std::vector<int64_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) text += i + 1 == numbers.size() ? " and " : ", ";
    text += fmt::format("{}", numbers[i]);
  }
  return text;
}

}  // namespace

std::string LeftOut(const std::vector<int64_t>& tokens) {
  if (tokens.empty()) return "";
  return fmt::format(" (not compared, to save time: {})", List(tokens));
}

void Tally::Add(int64_t tokens, const LogitDifference& logits) {
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

std::string Tally::Tokens() const { return List(tokens_); }

std::string Tally::Figures() const {
  if (!finite_) return "some logits are not finite";
  if (max_abs_ == 0) return "equal to the bit";
  return fmt::format(
      "KL divergence {:.2g} nats and RMS {:.2g} behind {} token{}{}, "
      "largest |logit difference| {:.2g}",
      kld_, rms_, worst_, worst_ == 1 ? "" : "s",
      flipped_ ? ", where the greedy token differs" : "", max_abs_);
}

Check Tally::ToCheck(std::string name, const Limit& limit,
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

}  // namespace verify_tflite
