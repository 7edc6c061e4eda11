// Runs the command `verify_tflite selfcheck`.
#ifndef VERIFY_TFLITE_CLI_SELF_CHECK_COMMAND_H_
#define VERIFY_TFLITE_CLI_SELF_CHECK_COMMAND_H_

#include <cstdint>
#include <optional>
#include <string>

#include "base/progress.h"
#include "cli/supervisor.h"
#include "report/self_check.h"

namespace verify_tflite {

struct SelfCheckFlags {
  std::string tflite_path;
  std::optional<int64_t> sliding_window;
  int num_threads = 1;
  bool json = false;
  std::string json_path;  // empty with `json`: standard output
};

// Returns no value for --help. Throws Error for an unknown flag or a bad value.
std::optional<SelfCheckFlags> ParseSelfCheckFlags(int argc,
                                                  const char* const* argv);
std::string SelfCheckHelp();

// Throws Error when the model cannot be run.
SelfCheckReport SelfCheckFile(const SelfCheckFlags& flags, const StageFn& stage,
                              const ProgressFn& progress);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_SELF_CHECK_COMMAND_H_
