// Makes results with every feature that the reports show, for their tests.
#ifndef VERIFY_TFLITE_REPORT_SAMPLE_VERIFICATION_H_
#define VERIFY_TFLITE_REPORT_SAMPLE_VERIFICATION_H_

#include <cstdint>

#include "result/verification.h"

namespace verify_tflite {

// Returns the result of a broken float32 file in a bundle: one prompt passes
// with a tie, one differs everywhere and holds hostile text; an evaluation that
// gets worse with the position, checks of every outcome, a profile of the KV
// caches that steps at a layer, a hypothesis that explains it, two findings.
Verification SampleVerification();

// Returns the result of a sound int8 file: one prompt, `positions` (a multiple
// of two) positions of evaluation in two passages. It passes from 400 positions
// on.
Verification SoundVerification(int64_t positions);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_SAMPLE_VERIFICATION_H_
