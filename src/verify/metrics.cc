#include "verify/metrics.h"

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

}  // namespace

int32_t Argmax(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best] || std::isnan(logits[best])) best = i;
  }
  return std::isnan(logits[best]) ? 0 : static_cast<int32_t>(best);
}

LogitDifference Compare(std::span<const float> reference,
                        std::span<const float> candidate) {
  assert(!reference.empty() && reference.size() == candidate.size());
  LogitDifference result;
  result.reference_token = Argmax(reference);
  result.candidate_token = Argmax(candidate);
  result.finite = AllFinite(reference) && AllFinite(candidate);
  if (!result.finite) return result;

  const double reference_top = reference[result.reference_token];
  result.margin = reference_top - reference[result.candidate_token];
  const double log_z = LogSumExp(reference, reference_top);
  const double candidate_log_z =
      LogSumExp(candidate, candidate[result.candidate_token]);
  const auto size = static_cast<double>(reference.size());
  double sum = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double difference = double{candidate[i]} - reference[i];
    sum += difference;
    result.mean_abs += std::abs(difference);
    result.max_abs = std::max(result.max_abs, std::abs(difference));
    const double log_p = reference[i] - log_z;
    result.kld += std::exp(log_p) * (candidate_log_z - log_z - difference);
  }
  result.mean_abs /= size;
  const double mean = sum / size;
  double squares = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double centred = double{candidate[i]} - reference[i] - mean;
    squares += centred * centred;
  }
  result.rms = std::sqrt(squares / size);
  // Rounding can leave equal distributions a hair below zero.
  result.kld = std::max(result.kld, 0.0);
  return result;
}

}  // namespace verify_tflite
