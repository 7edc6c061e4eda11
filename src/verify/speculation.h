// Speculative verification: the candidate drafts greedily, the reference scores
// the draft in one teacher-forced pass, and where its own choice differs the
// candidate drafts again from there. The result is PyTorch's exact greedy text,
// and at each of its positions both models' logits given the same tokens, for
// (differences + 1) reference passes instead of one a token. The idea is that
// of speculative decoding with a greedy target (Leviathan et al., 2023,
// arXiv:2211.17192), used to verify instead of to generate.
#ifndef VERIFY_TFLITE_VERIFY_SPECULATION_H_
#define VERIFY_TFLITE_VERIFY_SPECULATION_H_

#include <span>
#include <vector>

#include "candidate/prefill_plan.h"
#include "candidate/session.h"
#include "reference/reference.h"
#include "result/verification.h"
#include "verify/verify_input.h"

namespace verify_tflite {

// Returns what Session::Create must compile for the prompts.
std::vector<PrefillPlan> PromptPlans(const Model& model,
                                     std::span<const Prompt> prompts);

// Runs both models on all prompts; the results are in their order. Adds to
// `timing`. `session` needs the signatures of PromptPlans. Throws Error as
// RunVerification does.
std::vector<PromptResult> RunPrompts(const VerifyInput& input,
                                     std::span<const Prompt> prompts,
                                     Session& session, Reference& reference,
                                     Timing& timing);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_SPECULATION_H_
