// Prints what local verification measures, stage by stage, and what the check
// of tables costs: the figures of docs/structure.md and docs/tables.md.
#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "structure/position_check.h"
#include "structure/structure_check.h"

namespace verify_tflite {
namespace {

class Clock {
 public:
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(start_, now))
        .count();
  }

 private:
  std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();
};

// Returns the largest resident set of the process so far, in MB.
double PeakMegabytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1e3;
}

// Runs what depends on positions at all positions, as the check of tables does.
void MeasureTables(const Model& model, const FileGraph& file,
                   const Checkpoint& checkpoint) {
  const Reference reference = Reference::Open(checkpoint, {});
  const double before = PeakMegabytes();
  Clock clock;
  const PositionResult result = CheckPositions(
      model, *file.file, checkpoint.config(),
      {reference.RopeFrequencies(false), reference.RopeFrequencies(true)});
  const double seconds = clock.Lap();
  fmt::print("tables: {} positions, {:.2f} s, {:.0f} MB more at the peak\n",
             result.positions, seconds, PeakMegabytes() - before);
}

void Print(const SignatureStructure& signature) {
  fmt::print("{}: {} of {} operators {}\n  positions", signature.signature,
             signature.verified_ops, signature.ops, signature.not_run);
  for (const auto& [begin, end] : signature.positions) {
    fmt::print(" {}-{}", begin, end - 1);
  }
  fmt::print("\n");
  for (const StageAgreement& stage : signature.stages) {
    fmt::print(
        "  {:<18} {:>6} rows  worst {:.2e}  limit {:.1e}  layer {:>2}"
        "  position {}{}\n",
        stage.stage, stage.rows, stage.worst, stage.limit, stage.layer,
        stage.position, stage.worst <= stage.limit ? "" : "  WRONG");
  }
  for (const std::string& op : signature.not_verified) {
    fmt::print("  not verified: {}\n", op);
  }
}

void Run(const std::string& path, const std::string& checkpoint_path) {
  constexpr int kThreads = 2;
  const Checkpoint checkpoint = Checkpoint::Open(checkpoint_path);
  Model::OpenOptions options;
  options.sliding_window = SlidingWindowOf(checkpoint.config());
  const Model model = Model::Open(path, options);
  Clock clock;
  const FileGraph file = OpenFileGraph(path, checkpoint);
  const double open = clock.Lap();
  MeasureTables(model, file, checkpoint);
  clock.Lap();
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 400; ++i) {
    ids.push_back(static_cast<int32_t>(3 + i * int64_t{7919} %
                                               (model.info().vocab_size - 3)));
  }
  const PlainLogits plain;
  StructureCheck check({.model = model,
                        .checkpoint = checkpoint,
                        .file = file,
                        .ids = ids,
                        .plain = plain,
                        .num_threads = kThreads});
  const double run = clock.Lap();
  const Structure structure = check.Compare();
  const double compare = clock.Lap();
  for (const SignatureStructure& signature : structure.signatures) {
    Print(signature);
  }
  for (const StructureFault& fault : structure.faults) {
    fmt::print(
        "FAULT {} {} layer {} position {} {} error {:.2e} limit {:.1e}\n",
        fault.signature, fault.stage, fault.layer, fault.position, fault.op,
        fault.error, fault.limit);
  }
  fmt::print("seconds: open {:.2f}, candidate {:.2f}, reference {:.2f}\n", open,
             run, compare);
}

}  // namespace
}  // namespace verify_tflite

int main(int argc, char** argv) {
  if (argc != 3) {
    std::puts("usage: structure_figures MODEL.tflite CHECKPOINT_DIRECTORY");
    return 2;
  }
  try {
    verify_tflite::Run(argv[1], argv[2]);
  } catch (const verify_tflite::Error& error) {
    std::puts(error.what());
    return 2;
  }
  return 0;
}
