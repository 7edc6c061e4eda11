// Runs the command `verify_tflite weights`.
#ifndef VERIFY_TFLITE_CLI_WEIGHTS_COMMAND_H_
#define VERIFY_TFLITE_CLI_WEIGHTS_COMMAND_H_

#include <string>

#include "cli/flag_values.h"
#include "cli/supervisor.h"
#include "report/weights.h"

namespace verify_tflite {

struct WeightsFlags {
  std::string tflite_path;
  std::string checkpoint_path;
  JsonOutput json;
};

// Reads both files and compares. Throws Error when one cannot be read.
WeightReport RunWeights(const WeightsFlags& flags, const StageFn& stage);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_WEIGHTS_COMMAND_H_
