// A small result with every feature the reports show; for their tests.
#ifndef VERIFY_TFLITE_REPORT_SAMPLE_VERIFICATION_H_
#define VERIFY_TFLITE_REPORT_SAMPLE_VERIFICATION_H_

#include "verify/verification.h"

namespace verify_tflite {

// Two prompts of a float32 file in a bundle: one passes with a tie, one fails;
// one finding.
Verification SampleVerification();

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_SAMPLE_VERIFICATION_H_
