// A verification as one HTML page.
#ifndef VERIFY_TFLITE_REPORT_HTML_H_
#define VERIFY_TFLITE_REPORT_HTML_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Self-contained: no script, nothing loaded, light or dark as the reader
// prefers. Texts of prompts and models are escaped and kept from changing the
// direction of what surrounds them. Below 1 MB however many positions were
// looked at; what is left out for that is said in the page.
std::string HtmlReport(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_HTML_H_
