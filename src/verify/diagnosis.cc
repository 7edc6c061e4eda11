#include "verify/diagnosis.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "verify/causes/causes.h"

namespace verify_tflite {
namespace {

using Cause = Explanation (*)(const Evidence&);

// In the order of docs/locate.md: what proves more comes first, and the first
// that explains the fault is reported.
constexpr Cause kDirect[] = {
    ExplainByDecodeRope,    ExplainByPrefillRope, ExplainByDecodePlaces,
    ExplainByPrefillPlaces, ExplainByWrongKeys,   ExplainBySparsity,
};
// These compute the reference again with Evidence::changes.
constexpr Cause kRecomputing[] = {ExplainByLogits, ExplainByStages};

// Takes over what was tried; returns whether there is a finding.
bool Take(Explanation explanation, Diagnosis& diagnosis) {
  std::ranges::move(explanation.tried,
                    std::back_inserter(diagnosis.hypotheses));
  if (!explanation.finding) return false;
  diagnosis.findings.push_back(*std::move(explanation.finding));
  return true;
}

bool TakeFirst(std::span<const Cause> causes, const Evidence& evidence,
               Diagnosis& diagnosis) {
  return std::ranges::any_of(
      causes, [&](Cause cause) { return Take(cause(evidence), diagnosis); });
}

bool AllEqual(const std::vector<float>& logits) {
  return std::ranges::all_of(logits,
                             [&](float x) { return x == logits.front(); });
}

bool IsWrong(const Evidence& evidence) {
  return evidence.prefill.FirstWrong() || evidence.decode.FirstWrong() ||
         evidence.input.suspicious || !evidence.input.faults.empty() ||
         !(evidence.kld <= evidence.input.limits.kld.broken);
}

}  // namespace

Diagnosis Diagnose(const DiagnosisInput& input, const Probes& probes) {
  Diagnosis diagnosis;
  Evidence evidence = LookAt(input, probes);
  // Non-finite and constant logits are findings of their own, and hide others.
  if (!std::isfinite(evidence.kld) || AllEqual(probes.candidate_logits)) {
    return diagnosis;
  }
  if (Take(ExplainByReach(evidence), diagnosis)) return diagnosis;
  // A model that is the checkpoint's differs by the cost of its quantisation;
  // what is downstream of wrong weights is wrong.
  const bool proven = input.weights_verified && input.structure_verified;
  if (!IsWrong(evidence) || proven || input.weights_differ) return diagnosis;
  if (TakeFirst(kDirect, evidence, diagnosis)) return diagnosis;
  if (input.recompute) {
    evidence.changes = ChangesFor(evidence);
    if (TakeFirst(kRecomputing, evidence, diagnosis)) return diagnosis;
  }
  Take(ExplainByPlace(evidence), diagnosis);
  return diagnosis;
}

}  // namespace verify_tflite
