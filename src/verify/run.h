// One verification: what it runs, in which order, and who answers which
// question. docs/design.md.
#ifndef VERIFY_TFLITE_VERIFY_RUN_H_
#define VERIFY_TFLITE_VERIFY_RUN_H_

#include <span>

#include "result/verification.h"
#include "verify/eval_text.h"
#include "verify/verify_input.h"

namespace verify_tflite {

// Runs both models on all prompts and on Settings::eval_tokens of `text`, and
// the candidate against itself (verify/self_check.h). Then it looks for the
// cause of what is wrong and judges. It fills v.prompts, v.evaluation, the
// checks of all groups but the bundle's, v.kv_profile, v.hypotheses and what
// Judge fills, and adds to v.findings and v.timing. v.model, v.limits and the
// bundle's checks must be there before. Throws Error where the two are no pair,
// a prompt does not fit (preconditions.h), one of the models cannot be run, or
// the reference yields non-finite logits.
void RunVerification(const VerifyInput& input, std::span<const Prompt> prompts,
                     const EvalText& text, Verification& v);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_RUN_H_
