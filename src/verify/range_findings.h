// Finds ranges that do not hold what is computed, a fault of calibration.
#ifndef VERIFY_TFLITE_VERIFY_RANGE_FINDINGS_H_
#define VERIFY_TFLITE_VERIFY_RANGE_FINDINGS_H_

#include <optional>
#include <span>

#include "result/verification.h"
#include "structure/structure_check.h"

namespace verify_tflite {

// Returns the finding "activation-range", one for all tensors, or nothing where
// all hold what they are given. A few numbers beyond a range cost nothing and
// are no fault. The measure is how much of a tensor's size (the sum of its
// squares) is cut off. `kld` is the outcome of the mean divergence; beyond the
// recipe's limits, a smaller cut-off explains it.
std::optional<Finding> FindRanges(std::span<const TensorUse> uses, Outcome kld);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_RANGE_FINDINGS_H_
