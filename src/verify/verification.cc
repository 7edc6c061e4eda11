#include "verify/verification.h"

#include <algorithm>

namespace verify_tflite {

std::optional<size_t> FirstDifference(const PromptResult& result) {
  const auto& a = result.reference_ids;
  const auto& b = result.candidate_ids;
  const auto [at, other] =
      std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (at == a.end() && other == b.end()) return std::nullopt;
  return at - a.begin();
}

int64_t NumFailed(const Verification& verification) {
  return std::count_if(verification.prompts.begin(), verification.prompts.end(),
                       [](const PromptResult& r) { return !r.passed; });
}

bool Passed(const Verification& verification) {
  return !verification.prompts.empty() && NumFailed(verification) == 0 &&
         verification.findings.empty();
}

}  // namespace verify_tflite
