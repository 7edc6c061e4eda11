// Writes a verification as JSON for programs. The format is in
// docs/json_format.md.
#ifndef VERIFY_TFLITE_REPORT_JSON_H_
#define VERIFY_TFLITE_REPORT_JSON_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Returns everything in `verification`, pretty-printed, ending in a newline.
std::string JsonReport(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_JSON_H_
