#include "cli/self_check_command.h"

#include <algorithm>
#include <iterator>
#include <thread>

#include "base/error.h"
#include "candidate/session.h"
#include "cli/arguments.h"
#include "cli/flag_values.h"
#include "cli/version.h"
#include "verify/self_check.h"
#include "verify/signature_findings.h"
#include "verify/stopwatch.h"

namespace verify_tflite {
std::string SelfCheckHelp() {
  return R"(Does a converted model agree with itself? Needs no checkpoint.

Usage: verify_tflite selfcheck --tflite_path=FILE [flags]

  --tflite_path=FILE    a .tflite or .litertlm file
  --sliding_window=N    sliding_window of the checkpoint's config.json: its
                        boundary is checked; needed by files that take the mask
                        of such layers as input
  --num_threads=N       default: all cores
  --json[=FILE]         print JSON (format: docs/self_check.md); to FILE if named

Feeds the same tokens through decode alone, through every prefill signature and
in several chunks; again after another prompt; with another number of threads;
to the end of the KV cache; and through TFLite's own kernels instead of XNNPACK.
The logits must be the same (docs/self_check.md). It cannot find what is wrong
in the same way everywhere: that takes the checkpoint (verify_tflite --help).

Exit code: 0 consistent, 1 degraded or broken, 2 could not check, 3 inconclusive.
)";
}

std::optional<SelfCheckFlags> ParseSelfCheckFlags(int argc,
                                                  const char* const* argv) {
  const Arguments arguments = ParseArguments(
      {.command = "selfcheck",
       .flags = {"--tflite_path", "--sliding_window", "--num_threads"},
       .json = true},
      argc, argv);
  if (arguments.help) return std::nullopt;
  SelfCheckFlags flags;
  flags.tflite_path = arguments.Value("--tflite_path");
  flags.json = arguments.json;
  flags.json_path = arguments.json_path;
  const std::string window = arguments.Value("--sliding_window");
  if (!window.empty()) {
    flags.sliding_window =
        ParseCount("sliding_window", window, int64_t{1} << 31);
  }
  const std::string threads = arguments.Value("--num_threads");
  flags.num_threads =
      threads.empty()
          ? static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))
          : static_cast<int>(ParseCount("num_threads", threads, 1024));
  if (flags.tflite_path.empty()) {
    throw Error(
        "selfcheck: --tflite_path is required (verify_tflite selfcheck --help "
        "explains it)");
  }
  return flags;
}

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
