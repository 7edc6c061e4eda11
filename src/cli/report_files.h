// The files a result is written to.
#ifndef VERIFY_TFLITE_CLI_REPORT_FILES_H_
#define VERIFY_TFLITE_CLI_REPORT_FILES_H_

#include <string>

#include "result/verification.h"

namespace CLI {
class App;
}

namespace verify_tflite {

struct ReportFiles {  // empty: none
  std::string json;
  std::string junit;
  std::string markdown;
  std::string html;
};

// Adds --json, --junit, --markdown and --html.
void AddReportFlags(CLI::App& app, ReportFiles& files);

bool AnyOf(const ReportFiles& files);

// Before the work: throws Error when one could not be written later, or when
// two are the same.
void CheckWritable(const ReportFiles& files);

// Each whole or not at all. Throws Error.
void WriteReports(const ReportFiles& files, const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_REPORT_FILES_H_
