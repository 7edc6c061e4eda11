// The pass rule. Its reasons and the measurements behind its limits:
// docs/pass_rule.md.
#ifndef VERIFY_TFLITE_VERIFY_JUDGE_H_
#define VERIFY_TFLITE_VERIFY_JUDGE_H_

#include "verify/verification.h"

namespace verify_tflite {

// Limits for a file of this recipe, as the settings override them.
Limits LimitsFor(Recipe recipe, const Settings& settings);

// A differing token is a tie where PyTorch's margin between the two is at most
// four times the RMS (offset removed) of the logit differences there: less than
// the noise of the conversion can turn. A non-finite position is never a tie.
bool IsTie(const LogitDifference& logits);

// Fills `checks` and `passed` from everything else in `result`. A prompt passes
// when no check failed and tokens and KL divergence were both checked; what
// cannot be computed (no positions, NaN) fails, it never passes.
void Judge(const Limits& limits, PromptResult& result);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_JUDGE_H_
