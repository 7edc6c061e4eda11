#include "cli/weights_command.h"

#include <memory>
#include <optional>

#include "audit/findings.h"
#include "checkpoint/checkpoint.h"
#include "cli/memory_watch.h"
#include "mapping/model_map.h"
#include "tflite/signature_faults.h"
#include "verify/signature_findings.h"
#include "verify/stopwatch.h"

namespace verify_tflite {
namespace {

constexpr int kThreads = 2;

}  // namespace

WeightReport RunWeights(const WeightsFlags& flags, const StageFn& stage) {
  WeightReport report;
  std::optional<Stopwatch> watch(report.seconds);
  report.tflite_path = flags.tflite_path;
  report.checkpoint_path = flags.checkpoint_path;
  stage("opening checkpoint " + flags.checkpoint_path);
  const Checkpoint checkpoint = Checkpoint::Open(flags.checkpoint_path);
  report.notes = checkpoint.notes();
  stage("comparing the weights of " + flags.tflite_path);
  const auto container =
      std::make_shared<const tflite::Container>(flags.tflite_path);
  report.audit = AuditWeights(ModelMap(container, checkpoint), kThreads);
  report.findings = FindingsOf(FindSignatureFaults(*container));
  for (Finding& finding : FindingsOf(report.audit)) {
    report.findings.push_back(std::move(finding));
  }
  watch.reset();
  report.peak_memory_bytes = PeakResidentBytes();
  return report;
}

}  // namespace verify_tflite
