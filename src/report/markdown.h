// Writes a verification as Markdown, for pull requests and step summaries.
#ifndef VERIFY_TFLITE_REPORT_MARKDOWN_H_
#define VERIFY_TFLITE_REPORT_MARKDOWN_H_

#include <string>

#include "result/verification.h"

namespace verify_tflite {

// Returns GitHub's Markdown: verdict, findings and a table of checks; prompts,
// evaluation and how to reproduce are collapsed. It is short enough for a
// comment (65,536 characters) whatever was verified: long texts and lists are
// cut, and say so.
std::string MarkdownReport(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_MARKDOWN_H_
