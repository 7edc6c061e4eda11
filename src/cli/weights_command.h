// Runs the command `verify_tflite weights`.
#ifndef VERIFY_TFLITE_CLI_WEIGHTS_COMMAND_H_
#define VERIFY_TFLITE_CLI_WEIGHTS_COMMAND_H_

#include <optional>
#include <string>

#include "cli/supervisor.h"
#include "report/weights.h"

namespace verify_tflite {

struct WeightsFlags {
  std::string tflite_path;
  std::string checkpoint_path;
  bool json = false;
  std::string json_path;  // empty with `json`: standard output
};

// Returns no value for --help. Throws Error for an unknown flag or a missing
// one.
std::optional<WeightsFlags> ParseWeightsFlags(int argc,
                                              const char* const* argv);
std::string WeightsHelp();

// Reads both files and compares. Throws Error when one cannot be read.
WeightReport RunWeights(const WeightsFlags& flags, const StageFn& stage);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_WEIGHTS_COMMAND_H_
