// Writes a result to files.
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

// Throws Error when one could not be written later, or when two are the same.
// It is called before the work.
void CheckWritable(const ReportFiles& files);

// Writes each file whole or not at all. Throws Error when one cannot be
// written.
void WriteReports(const ReportFiles& files, const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_REPORT_FILES_H_
