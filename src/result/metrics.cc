#include "result/metrics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>

namespace verify_tflite {
namespace {

// log(sum(exp(x))) in float64, computed from the largest value down so that
// nothing overflows.
double LogSumExp(std::span<const float> logits, double largest) {
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - largest);
  return largest + std::log(sum);
}

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float x) { return std::isfinite(x); });
}

// Entries that argmax would take before `token`.
int64_t Rank(std::span<const float> logits, int32_t token) {
  int64_t rank = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    rank += logits[i] > logits[token] ||
            (logits[i] == logits[token] && i < static_cast<size_t>(token));
  }
  return rank;
}

// The figures that need the mean of the differences first.
void AddCentred(std::span<const float> reference,
                std::span<const float> candidate, double mean_difference,
                double mean_reference, LogitDifference& result) {
  double noise = 0;
  double signal = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double d = double{candidate[i]} - reference[i] - mean_difference;
    const double r = reference[i] - mean_reference;
    noise += d * d;
    signal += r * r;
  }
  result.rms = std::sqrt(noise / static_cast<double>(reference.size()));
  if (noise > 0) result.nmse = noise / signal;
}

}  // namespace

int32_t Argmax(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best] || std::isnan(logits[best])) best = i;
  }
  return std::isnan(logits[best]) ? 0 : static_cast<int32_t>(best);
}

LogitDifference Compare(std::span<const float> reference,
                        std::span<const float> candidate,
                        std::optional<int32_t> text_token) {
  assert(!reference.empty() && reference.size() == candidate.size());
  LogitDifference result;
  result.reference_token = Argmax(reference);
  result.candidate_token = Argmax(candidate);
  result.text_token = text_token.value_or(result.reference_token);
  result.finite = AllFinite(reference) && AllFinite(candidate);
  if (!result.finite) return result;

  const double reference_top = reference[result.reference_token];
  const double candidate_top = candidate[result.candidate_token];
  result.margin = reference_top - reference[result.candidate_token];
  const double log_z = LogSumExp(reference, reference_top);
  const double candidate_log_z = LogSumExp(candidate, candidate_top);
  result.rank = Rank(candidate, result.reference_token);
  result.reference_logprob = reference[result.text_token] - log_z;
  result.candidate_logprob = candidate[result.text_token] - candidate_log_z;
  result.constant = std::all_of(candidate.begin(), candidate.end(),
                                [&](float x) { return x == candidate[0]; });
  const auto size = static_cast<double>(reference.size());
  double sum = 0;
  double reference_sum = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double difference = double{candidate[i]} - reference[i];
    sum += difference;
    reference_sum += reference[i];
    result.mean_abs += std::abs(difference);
    result.max_abs = std::max(result.max_abs, std::abs(difference));
    const double log_p = reference[i] - log_z;
    result.kld += std::exp(log_p) * (candidate_log_z - log_z - difference);
  }
  result.mean_abs /= size;
  AddCentred(reference, candidate, sum / size, reference_sum / size, result);
  // Rounding can leave equal distributions a hair below zero.
  result.kld = std::max(result.kld, 0.0);
  return result;
}

}  // namespace verify_tflite
