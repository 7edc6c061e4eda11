// Runs the command `verify_tflite selfcheck`.
#ifndef VERIFY_TFLITE_CLI_SELF_CHECK_COMMAND_H_
#define VERIFY_TFLITE_CLI_SELF_CHECK_COMMAND_H_

#include <cstdint>
#include <optional>
#include <string>

#include "base/progress.h"
#include "cli/flag_values.h"
#include "cli/supervisor.h"
#include "report/self_check.h"

namespace verify_tflite {

struct SelfCheckFlags {
  std::string tflite_path;
  std::optional<int64_t> sliding_window;
  int num_threads = 1;
  JsonOutput json;
};

// Throws Error when the model cannot be run.
SelfCheckReport SelfCheckFile(const SelfCheckFlags& flags, const StageFn& stage,
                              const ProgressFn& progress);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_SELF_CHECK_COMMAND_H_
