#include "cli/report_files.h"

#include <CLI/CLI.hpp>
#include <set>

#include "base/error.h"
#include "cli/output_file.h"
#include "report/html.h"
#include "report/json.h"
#include "report/junit.h"
#include "report/markdown.h"

namespace verify_tflite {
namespace {

struct Format {
  const char* flag;
  const char* text;
  std::string ReportFiles::*path;
  std::string (*report)(const Verification&);
};

constexpr Format kFormats[] = {
    {"--json", "write the full result to this file", &ReportFiles::json,
     JsonReport},
    {"--junit", "write test cases as JUnit XML", &ReportFiles::junit,
     JunitReport},
    {"--markdown", "write a summary for a pull request", &ReportFiles::markdown,
     MarkdownReport},
    {"--html", "write a page to read, with figures", &ReportFiles::html,
     HtmlReport},
};

}  // namespace

void AddReportFlags(CLI::App& app, ReportFiles& files) {
  for (const Format& format : kFormats) {
    app.add_option(format.flag, files.*format.path, format.text)
        ->type_name("FILE")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
}

bool AnyOf(const ReportFiles& files) {
  for (const Format& format : kFormats) {
    if (!(files.*format.path).empty()) return true;
  }
  return false;
}

void CheckWritable(const ReportFiles& files) {
  std::set<std::string> paths;
  for (const Format& format : kFormats) {
    const std::string& path = files.*format.path;
    if (path.empty()) continue;
    if (!paths.insert(path).second) {
      throw Error("{}: {} is named for another report, too", format.flag, path);
    }
    CheckWritable(path);
  }
}

void WriteReports(const ReportFiles& files, const Verification& v) {
  for (const Format& format : kFormats) {
    const std::string& path = files.*format.path;
    if (!path.empty()) WriteWhole(path, format.report(v));
  }
}

}  // namespace verify_tflite
