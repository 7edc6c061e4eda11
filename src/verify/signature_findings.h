// Finds what is wrong with a file in what its signatures say, before anything
// runs: tensors that a graph does not give, and scales of integer inputs and
// outputs that do not fit together.
#ifndef VERIFY_TFLITE_VERIFY_SIGNATURE_FINDINGS_H_
#define VERIFY_TFLITE_VERIFY_SIGNATURE_FINDINGS_H_

#include <span>
#include <vector>

#include "candidate/model.h"
#include "result/verification.h"
#include "tflite/signature_faults.h"

namespace verify_tflite {

// Returns the finding "signature-output", one for all faults, or none. It is
// broken: the file cannot be run as it is.
std::vector<Finding> FindingsOf(std::span<const SignatureFault> faults);

// Returns "kv-scale-differs", "mask-range" and "rope-precision" for a file with
// integer inputs and outputs.
std::vector<Finding> ScaleFindings(const ModelInfo& model);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_SIGNATURE_FINDINGS_H_
