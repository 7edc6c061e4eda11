// Gets from figures to a named fault.
//
// Evidence is taken in the order of what it proves: which tokens attention sees
// (measured on the candidate alone), by which angles keys are rotated (measured
// against the reference's keys before RoPE), heads or caches in another's place
// (compared directly), and last the reference computed again with one thing
// changed, to see whether it then agrees. What none of these explains is
// reported by its place: the first layer that is wrong, in which of K and V, in
// prefill or in decode. docs/locate.md has the method and its limits.
#ifndef VERIFY_TFLITE_VERIFY_DIAGNOSIS_H_
#define VERIFY_TFLITE_VERIFY_DIAGNOSIS_H_

#include <span>
#include <vector>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "reference/reference.h"
#include "result/verification.h"
#include "structure/structure_check.h"
#include "verify/probes.h"

namespace verify_tflite {

// The NMSE of K and V that sound conversions stay below (docs/locate.md), for
// layer 0, which sees the embedding alone, and for the others.
struct KvNoise {
  double first = 0;
  double other = 0;
};
KvNoise NoiseOf(const ModelInfo& model);

struct DiagnosisInput {
  const Checkpoint& checkpoint;
  const ModelInfo& model;
  const Limits& limits;
  const Reference& reference;  // of the checkpoint as it is
  int num_threads = 1;
  ProgressFn progress = nullptr;
  // The audit of the weights says that some are not the checkpoint's, so that K
  // and V are wrong for a reason already found; or that all are.
  bool weights_differ = false;
  bool weights_verified = false;
  // Whether to compute the reference again with changes: seconds to a minute.
  bool recompute = true;
  // Whether the verification so far says that something is wrong. Then faults
  // that do not change K and V are looked for, too.
  bool suspicious = false;
  bool broken = false;  // and that it does not work
  // Local verification, null where there is none, and what it found.
  const StructureCheck* structure = nullptr;
  std::span<const StructureFault> faults = {};
  // All operators are verified. With weights_verified, the model is the
  // checkpoint's, and what it differs by is the cost of its quantisation.
  bool structure_verified = false;
};

struct Diagnosis {
  std::vector<Finding> findings;  // the most certain first
  std::vector<Hypothesis> hypotheses;
};

// Returns no finding where K, V and logits of the probes are those of a sound
// conversion. Throws Error as Reference does.
Diagnosis Diagnose(const DiagnosisInput& input, const Probes& probes);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_DIAGNOSIS_H_
