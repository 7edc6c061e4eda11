#include "cli/self_check_command.h"

#include <algorithm>
#include <iterator>

#include "candidate/session.h"
#include "cli/version.h"
#include "verify/self_check.h"
#include "verify/signature_findings.h"
#include "verify/stopwatch.h"

namespace verify_tflite {
SelfCheckReport SelfCheckFile(const SelfCheckFlags& flags, const StageFn& stage,
                              const ProgressFn& progress) {
  SelfCheckReport report;
  report.tool_version = kVersion;
  report.tflite_path = flags.tflite_path;
  report.num_threads = flags.num_threads;
  {
    const Stopwatch watch(report.seconds);
    stage("opening " + flags.tflite_path);
    Model::OpenOptions open;
    open.sliding_window = flags.sliding_window;
    const Model model = Model::Open(flags.tflite_path, open);
    report.recipe = model.info().recipe_detail;
    report.findings = FindingsOf(model.signature_faults());
    if (!report.findings.empty()) return report;
    stage("compiling and running " + flags.tflite_path);
    if (progress) progress("compiling", 0, 0);
    Session session = Session::Create(model, SelfCheckPlans(model.info()),
                                      {.num_threads = flags.num_threads});
    SelfCheckResult result = RunSelfCheck(model, session, {},
                                          {.num_threads = flags.num_threads,
                                           .window = flags.sliding_window,
                                           .progress = progress});
    report.checks = std::move(result.checks);
    report.findings = ScaleFindings(model.info());
    std::ranges::move(result.findings, std::back_inserter(report.findings));
  }
  return report;
}

}  // namespace verify_tflite
