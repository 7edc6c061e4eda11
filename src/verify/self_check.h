// Compares the converted model with itself, without a reference: the same
// tokens must give the same logits whichever way they are fed.
// docs/self_check.md has what each check does, its limits and how they were
// measured.
#ifndef VERIFY_TFLITE_VERIFY_SELF_CHECK_H_
#define VERIFY_TFLITE_VERIFY_SELF_CHECK_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/progress.h"
#include "candidate/model.h"
#include "candidate/prefill_plan.h"
#include "candidate/session.h"
#include "result/verification.h"

namespace verify_tflite {

struct SelfCheckOptions {
  int num_threads = 1;                 // of the session
  std::optional<int64_t> window = {};  // sliding window, where known
  // What it may cost, in decode steps of this model. The cost is counted, not
  // measured, so that the same file always gets the same checks. A check that
  // does not fit says what it left out.
  int64_t max_steps = kThorough;
  ProgressFn progress = nullptr;

  static constexpr int64_t kThorough = 4000;
};

// Returns `max_steps` for a self-check that is part of a verification: about
// two seconds of a model of 100 MB or more, everything of a small one.
int64_t BriefSteps(const ModelInfo& model);

struct SelfCheckResult {
  // "prefill_…" for each prefill signature, "chunking", "state_leak",
  // "threads", "kernels", "kv_end", "window" where there is one.
  std::vector<Check> checks;
  // prefill-differs, decode-differs, chunking, state-leak, threads-differ,
  // kernel-differs, kv-boundary, nan.
  std::vector<Finding> findings;
};

// Limits of how far two ways through the same file may be apart.
struct SelfCheckLimits {
  Limit kld;      // nats, over the vocabulary of one position
  Limit kernels;  // the same, between XNNPACK and builtin kernels
};
SelfCheckLimits SelfCheckLimitsFor(const ModelInfo& model);

// Returns what Session::Create must compile for it: every prefill signature.
std::vector<PrefillPlan> SelfCheckPlans(const ModelInfo& model);

// Returns token ids to feed where there is no text: spread over the vocabulary,
// the same at every call.
std::vector<int32_t> SelfCheckIds(int64_t vocab_size, int64_t count);

// Runs all checks. `ids` is a text to feed; where it is shorter than what a
// check takes, SelfCheckIds follows. Throws Error when the model cannot be run,
// or for an id outside the vocabulary.
SelfCheckResult RunSelfCheck(const Model& model, Session& session,
                             std::span<const int32_t> ids,
                             const SelfCheckOptions& options);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_SELF_CHECK_H_
