// Holds what the explanations of a fault look at, and what they answer.
#ifndef VERIFY_TFLITE_VERIFY_CAUSES_EVIDENCE_H_
#define VERIFY_TFLITE_VERIFY_CAUSES_EVIDENCE_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reference/alternative.h"
#include "result/verification.h"
#include "verify/diagnosis.h"
#include "verify/probes.h"

namespace verify_tflite {

// One of the two runs of the probes, and which of its tensors are wrong.
struct RunView {
  const char* name = "";  // "prefill", "decode"
  const std::vector<KvRows>* rows = nullptr;
  std::vector<bool> wrong_k;  // by layer
  std::vector<bool> wrong_v;

  bool Wrong(size_t layer) const { return wrong_k[layer] || wrong_v[layer]; }
  std::optional<size_t> FirstWrong() const {
    for (size_t i = 0; i < wrong_k.size(); ++i) {
      if (Wrong(i)) return i;
    }
    return std::nullopt;
  }
};

// The reference with one thing changed, and what the change would prove.
struct Change {
  FindingId id = {};
  std::string text;  // "norm epsilon 1e-06 instead of 1e-05"
  Alternative alternative;
};

struct Evidence {
  const DiagnosisInput& input;
  const Probes& probes;
  const ModelConfig& config;  // the checkpoint's
  KvNoise noise;
  RunView prefill;
  RunView decode;
  double kld = 0;  // mean divergence of the decode run, nats
  // The changes that the reference is computed again with; none before they are
  // asked for.
  std::vector<Change> changes = {};

  double NoiseAt(size_t layer) const {
    return layer == 0 ? noise.first : noise.other;
  }
  bool Quantised() const {
    return input.model.recipe >= Recipe::kInt8WeightOnly;
  }
};

// Returns the evidence of these probes, without changes.
Evidence LookAt(const DiagnosisInput& input, const Probes& probes);

// The answer of one explanation. `tried` is reported whether or not it
// explains.
struct Explanation {
  std::optional<Finding> finding;
  std::vector<Hypothesis> tried = {};
};

// Returns sum((c - r)^2) / sum(r^2).
double Nmse(std::span<const float> reference, std::span<const float> candidate);

// Returns the severity of a fault in what is computed: broken where the
// divergence is, else degraded. It is a fault whatever it costs.
Outcome SeverityByCost(const Evidence& evidence);

// Returns where local verification found faults, all signatures together:
// "input_norm of 30 layers, …". There must be some.
std::string DescribeFaults(const Evidence& evidence);

// Returns whether a change explains the faults of local verification. Then
// nothing is left but the error of an approximation of the runtime's (of GELU),
// in a stage that was wrong before.
bool Explains(const Evidence& evidence,
              const std::vector<StructureFault>& left);

// Runs the reference with the change over the tokens of the decode run.
Hypothesis Test(const Evidence& evidence, const Change& change);

// Returns a change of the checkpoint's settings.
Change With(const Evidence& evidence, FindingId id, std::string text,
            const std::function<void(ModelConfig&)>& change);

// Returns "The TFLite model computes something else: …".
std::string SentenceFor(std::string_view change);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_CAUSES_EVIDENCE_H_
