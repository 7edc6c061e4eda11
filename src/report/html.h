// Writes a verification as one HTML page.
#ifndef VERIFY_TFLITE_REPORT_HTML_H_
#define VERIFY_TFLITE_REPORT_HTML_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Returns a self-contained page: no script, nothing loaded, light or dark as
// the reader prefers. Texts of prompts and models are escaped and cannot change
// the direction of what surrounds them. The page is below 1 MB however many
// positions were looked at, and says what it leaves out for that.
std::string HtmlReport(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_HTML_H_
