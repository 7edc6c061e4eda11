// The pass rule. Its reasons and the measurements behind its limits:
// docs/pass_rule.md.
#ifndef VERIFY_TFLITE_RESULT_JUDGE_H_
#define VERIFY_TFLITE_RESULT_JUDGE_H_

#include "result/verification.h"

namespace verify_tflite {

// By what a file is judged: the recipe of its weights, or of its KV caches
// where those have fewer bits.
Recipe JudgedRecipe(const ModelInfo& model);

// Limits for a file of this recipe, as the settings override them.
Limits LimitsFor(Recipe recipe, const Settings& settings);

// See IsTie.
inline constexpr double kTieNoiseFactor = 4;

// A differing token is a tie where PyTorch's margin between the two is at most
// kTieNoiseFactor times the RMS (offset removed) of the logit differences
// there: less than the noise of the conversion can turn. A non-finite position
// is never a tie.
bool IsTie(const LogitDifference& logits);

// Holds an estimate against a limit: broken or degraded where the whole
// interval is beyond it, pass where the whole interval is within, inconclusive
// else. NaN is broken.
Outcome HoldAgainst(const Interval& interval, const Limit& limit);

// Judges everything that was measured, and nothing else: fills `checks` and
// `outcome` of every prompt, and `all`, `buckets`, the passages' figures,
// the checks of divergence and of structure, `outcome` and `reason` of `v`;
// adds the findings "nan" and "constant-logits" where they hold. What cannot be
// computed (no positions, NaN) never passes. Calling it again gives the same: a
// saved result can be judged anew by other limits.
void Judge(Verification& v);

// One prompt alone, by v.limits; part of Judge. `rounding_alone`: every weight
// and operator of a float32 file is verified, so that the tolerance of logits,
// which does not know their scale, gives way where no position diverges.
void JudgePrompt(const Limits& limits, PromptResult& result,
                 bool rounding_alone = false);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_JUDGE_H_
