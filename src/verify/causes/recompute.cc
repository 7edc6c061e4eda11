// The reference with one thing changed: does it agree with the candidate?
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "verify/causes/causes.h"

namespace verify_tflite {
namespace {

void Tell(const Evidence& evidence, size_t change) {
  if (!evidence.input.progress) return;
  evidence.input.progress("looking for the cause",
                          static_cast<int64_t>(change + 1),
                          static_cast<int64_t>(evidence.changes.size()));
}

}  // namespace

Explanation ExplainByLogits(const Evidence& evidence) {
  // Decode's logits say nothing of what is wrong in prefill alone.
  if (!evidence.decode.FirstWrong() &&
      evidence.kld <= evidence.input.limits.kld.pass) {
    return {};
  }
  Explanation result;
  std::optional<Hypothesis> best;
  for (size_t i = 0; i < evidence.changes.size(); ++i) {
    Tell(evidence, i);
    const Hypothesis hypothesis = Test(evidence, evidence.changes[i]);
    result.tried.push_back(hypothesis);
    if (!hypothesis.explains) continue;
    if (!best || hypothesis.kld < best->kld) best = hypothesis;
    // Nothing is left to explain.
    if (hypothesis.kld <= evidence.input.limits.kld.pass) break;
  }
  if (!best) return result;
  result.finding =
      MakeFinding({.id = best->finding,
                   .evidence = fmt::format(
                       "PyTorch with this change agrees with it: mean KL "
                       "divergence {:.3g} instead of {:.3g} nats over {} "
                       "positions.",
                       best->kld, evidence.kld, evidence.probes.plan.decode),
                   .sentence = SentenceFor(best->change)});
  return result;
}

Explanation ExplainByStages(const Evidence& evidence) {
  if (std::ranges::none_of(evidence.input.faults,
                           [](const StructureFault& fault) {
                             return IsDecode(fault.signature);
                           })) {
    return {};
  }
  for (size_t i = 0; i < evidence.changes.size(); ++i) {
    const Change& change = evidence.changes[i];
    // Weights are taken by the place they have in the file.
    if (!change.alternative.layers.empty()) continue;
    Tell(evidence, i);
    if (!Explains(evidence,
                  evidence.input.structure->FaultsUnder(change.alternative))) {
      continue;
    }
    return {MakeFinding(
        {.id = change.id,
         .severity = SeverityByCost(evidence),
         .evidence = DescribeFaults(evidence) +
                     "\nWith this change every stage of decode agrees with it "
                     "to float rounding.",
         .sentence = SentenceFor(change.text)})};
  }
  return {};
}

}  // namespace verify_tflite
