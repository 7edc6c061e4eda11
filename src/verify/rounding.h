// Measures what rounding alone does to a model's logits.
#ifndef VERIFY_TFLITE_VERIFY_ROUNDING_H_
#define VERIFY_TFLITE_VERIFY_ROUNDING_H_

#include <span>
#include <string>

#include "reference/reference.h"
#include "result/verification.h"
#include "verify/evaluation.h"
#include "verify/verify_input.h"

namespace verify_tflite {

// Returns whether the proofs passed and the logits are nevertheless beyond
// their limits, or at them. Then it is worth the time to ask whether rounding
// explains them.
bool IsRoundingInQuestion(const Verification& v);

// Runs PyTorch against itself over the positions that were compared: once as it
// is, and once with the last bit of all numbers that a stage computes moved by
// chance (D. S. Parker, Monte Carlo Arithmetic, UCLA CSD-970002, 1997). Returns
// how far apart the two are, and adds to `timing`.
Aggregate MeasureRounding(const VerifyInput& input, const EvalPlan& plan,
                          std::span<const PromptResult> prompts,
                          Reference& reference, Timing& timing);

// Says how much the model magnifies rounding, where Verification::rounding is
// more than it is of other models; else empty.
std::string DescribeRounding(const Verification& v);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_ROUNDING_H_
