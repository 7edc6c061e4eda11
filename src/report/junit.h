// Writes a verification as JUnit XML, for continuous integration.
#ifndef VERIFY_TFLITE_REPORT_JUNIT_H_
#define VERIFY_TFLITE_REPORT_JUNIT_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Returns a test suite for the verdict, for the checks over everything, of the
// model against itself and of the bundle, for the findings and for each prompt.
// Each check is a test case. Degraded, broken and inconclusive are failures, of
// these types; what was not checked is skipped. A single prompt has too few
// positions to decide much, so its inconclusive checks are skipped, too. The
// one case of the suite "verdict" fails exactly where the exit code is not 0.
std::string JunitReport(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_JUNIT_H_
