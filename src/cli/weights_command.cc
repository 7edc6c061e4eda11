#include "cli/weights_command.h"

#include <sys/resource.h>

#include <chrono>

#include "audit/findings.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "cli/arguments.h"
#include "tflite/signature_faults.h"
#include "verify/signature_findings.h"

namespace verify_tflite {
namespace {

constexpr int kThreads = 2;

}  // namespace

std::string WeightsHelp() {
  return R"(Are the weights of a converted model those of a checkpoint?

Usage: verify_tflite weights --tflite_path=FILE --checkpoint_path=PATH
                             [--json[=FILE]]

  --tflite_path      a .tflite, .litertlm or .task file
  --checkpoint_path  a directory with config.json, or a weight file in one
  --json             print JSON (format: docs/weights.md); to FILE if named

Nothing runs: every weight of the file is compared with the checkpoint's,
element by element, and must be its rounding.
Exit code: 0 all are, 1 some are not, 2 could not be checked.
)";
}

std::optional<WeightsFlags> ParseWeightsFlags(int argc,
                                              const char* const* argv) {
  const Arguments arguments =
      ParseArguments({.command = "weights",
                      .flags = {"--tflite_path", "--checkpoint_path"},
                      .json = true},
                     argc, argv);
  if (arguments.help) return std::nullopt;
  WeightsFlags flags;
  flags.tflite_path = arguments.Value("--tflite_path");
  flags.checkpoint_path = arguments.Value("--checkpoint_path");
  flags.json = arguments.json;
  flags.json_path = arguments.json_path;
  if (flags.tflite_path.empty() || flags.checkpoint_path.empty()) {
    throw Error(
        "weights: --tflite_path=FILE and --checkpoint_path=PATH are needed "
        "(verify_tflite weights --help)");
  }
  return flags;
}

WeightReport RunWeights(const WeightsFlags& flags, const StageFn& stage) {
  const auto start = std::chrono::steady_clock::now();
  WeightReport report;
  report.tflite_path = flags.tflite_path;
  report.checkpoint_path = flags.checkpoint_path;
  stage("opening checkpoint " + flags.checkpoint_path);
  const Checkpoint checkpoint = Checkpoint::Open(flags.checkpoint_path);
  report.notes = checkpoint.notes();
  stage("comparing the weights of " + flags.tflite_path);
  const tflite::Container container(flags.tflite_path);
  report.audit = AuditWeights(container, checkpoint, kThreads);
  report.findings = FindingsOf(FindSignatureFaults(container));
  for (Finding& finding : FindingsOf(report.audit)) {
    report.findings.push_back(std::move(finding));
  }
  report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  report.peak_memory_bytes = int64_t{usage.ru_maxrss} * 1024;
  return report;
}

}  // namespace verify_tflite
