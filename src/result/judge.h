// The pass rule. docs/pass_rule.md has its reasons and the measurements from
// which its limits follow.
#ifndef VERIFY_TFLITE_RESULT_JUDGE_H_
#define VERIFY_TFLITE_RESULT_JUDGE_H_

#include "result/verification.h"

namespace verify_tflite {

// Returns the recipe by which a file is judged: that of its weights, or of its
// KV caches where those have fewer bits.
Recipe JudgedRecipe(const ModelInfo& model);

// Returns the limits for a file of this recipe, as the settings override them.
Limits LimitsFor(Recipe recipe, const Settings& settings);

// Returns the same for a result. Of a faithful file they are widened to what
// Verification::rounding explains, where the model magnifies rounding. A limit
// of the user's own stays.
Limits LimitsOf(const Verification& v);

// A file may be so many times as far off as rounding alone takes PyTorch: twice,
// because PyTorch has rounded, too, and four times as much again, because its
// kernels may round twice as much. Measured: up to twice (SmolLM2).
inline constexpr double kRoundingRoom = 8;

// Returns whether rounding costs more than the limit of float32 files allows.
bool MagnifiesRounding(const Aggregate& rounding);

// See IsTie.
inline constexpr double kTieNoiseFactor = 4;

// Returns whether a differing token is a tie: PyTorch's margin between the two
// is at most kTieNoiseFactor times the RMS (offset removed) of the logit
// differences there. The noise of the conversion can turn so small a margin. A
// non-finite position is never a tie.
bool IsTie(const LogitDifference& logits);

// Compares an estimate with a limit. Returns broken or degraded where the whole
// interval is beyond it, pass where the whole interval is within, and
// inconclusive otherwise. NaN is broken.
Outcome HoldAgainst(const Interval& interval, const Limit& limit);

// Judges everything that was measured, and nothing else. It fills `checks` and
// `outcome` of every prompt, and `all`, `buckets`, the passages' figures, the
// checks of divergence and of structure, `outcome` and `reason` of `v`, and
// adds the findings "nan" and "constant-logits" where they hold. What cannot be
// computed (no positions, NaN) never passes. Calling it again gives the same,
// so a saved result can be judged again by other limits.
void Judge(Verification& v);

// The two halves of Judge. JudgeFigures fills all but `outcome` and `reason`;
// Conclude fills these, by the checks and by all findings that are there then.
void JudgeFigures(Verification& v);
void Conclude(Verification& v);

// Returns the outcome that checks, prompts and findings come to so far.
Outcome OutcomeOf(const Verification& v);

// Adds a finding, unless there is one of its id.
void AddFinding(Verification& v, Finding finding);

// Judges one prompt by v.limits; it is a part of Judge. `rounding_alone` says
// that every weight and operator of a float32 file is verified. The tolerance
// of logits, which does not know their scale, is then not applied where no
// position diverges.
void JudgePrompt(const Limits& limits, PromptResult& result,
                 bool rounding_alone = false);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_JUDGE_H_
