// Writes a verification as text for people.
#ifndef VERIFY_TFLITE_REPORT_CONSOLE_H_
#define VERIFY_TFLITE_REPORT_CONSOLE_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Returns what is compared with what, each prompt, findings and the summary. It
// ends with the verdict line: "✓ ALL TESTS PASSED" or "✗ n of m prompts
// failed", with the findings named.
std::string ConsoleReport(const Verification& verification);

// Returns the verdict line alone.
std::string VerdictLine(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_CONSOLE_H_
