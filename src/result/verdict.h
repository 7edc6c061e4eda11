// Says what was judged, in a sentence or two for a newcomer.
#ifndef VERIFY_TFLITE_RESULT_VERDICT_H_
#define VERIFY_TFLITE_RESULT_VERDICT_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Returns Verification::reason: first whether the file is faithful, then what
// its recipe costs. A named fault that decides comes before everything. It
// needs all that Judge fills but the reason.
std::string ReasonFor(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_VERDICT_H_
