#include "result/verification.h"

#include <algorithm>
#include <cmath>

namespace verify_tflite {
namespace {

bool Differs(const LogitDifference& l) {
  return l.reference_token != l.candidate_token;
}

}  // namespace

std::optional<size_t> FirstDifference(const PromptResult& result) {
  const auto& a = result.reference_ids;
  const auto& b = result.candidate_ids;
  const auto [at, other] =
      std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (at == a.end() && other == b.end()) return std::nullopt;
  return at - a.begin();
}

int64_t NumFailed(const Verification& verification) {
  return std::count_if(
      verification.prompts.begin(), verification.prompts.end(),
      [](const PromptResult& r) { return r.outcome >= Outcome::kDegraded; });
}

bool Passed(const Verification& verification) {
  return verification.outcome == Outcome::kPass;
}

Aggregate Summarize(std::span<const Position* const> positions) {
  Aggregate result;
  result.positions = static_cast<int64_t>(positions.size());
  std::vector<double> klds;
  std::vector<double> logprobs;
  double reference_sum = 0;
  double candidate_sum = 0;
  for (const Position* p : positions) {
    const LogitDifference& l = p->logits;
    if (!l.finite) continue;
    if (Differs(l)) ++(p->tie ? result.ties : result.flips);
    klds.push_back(l.kld);
    logprobs.push_back(l.candidate_logprob - l.reference_logprob);
    reference_sum += l.reference_logprob;
    candidate_sum += l.candidate_logprob;
    result.max_abs = std::max(result.max_abs, l.max_abs);
    result.mean_abs += l.mean_abs;
    result.rms += l.rms;
    result.nmse += l.nmse;
    result.max_rank = std::max(result.max_rank, l.rank);
  }
  result.kld = Summarize(klds);
  // A divergence is never below 0, whatever a short run's deviation says.
  if (result.kld.mean_interval.low < 0) result.kld.mean_interval.low = 0;
  result.logprob = Summarize(logprobs);
  if (klds.empty()) return result;
  const auto count = static_cast<double>(klds.size());
  result.mean_abs /= count;
  result.rms /= count;
  result.nmse /= count;
  result.reference_ppl = std::exp(-reference_sum / count);
  result.candidate_ppl = std::exp(-candidate_sum / count);
  return result;
}

}  // namespace verify_tflite
