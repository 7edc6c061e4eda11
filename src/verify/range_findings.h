// Ranges that do not hold what is computed: what calibration gets wrong.
#ifndef VERIFY_TFLITE_VERIFY_RANGE_FINDINGS_H_
#define VERIFY_TFLITE_VERIFY_RANGE_FINDINGS_H_

#include <optional>
#include <span>

#include "result/verification.h"
#include "structure/structure_check.h"

namespace verify_tflite {

// "activation-range": one finding for all tensors; nothing where all hold what
// they are given. A few numbers beyond a range cost nothing and are no fault:
// it counts how much of a tensor's size (the sum of its squares) is cut off.
// `kld` is how the mean divergence was judged: beyond the recipe's limits, less
// explains it.
std::optional<Finding> FindRanges(std::span<const TensorUse> uses, Outcome kld);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_RANGE_FINDINGS_H_
