// Runs the command `verify_tflite inspect`.
#ifndef VERIFY_TFLITE_CLI_INSPECT_H_
#define VERIFY_TFLITE_CLI_INSPECT_H_

#include <string>

#include "cli/flag_values.h"
#include "cli/supervisor.h"
#include "report/inspect.h"

namespace verify_tflite {

struct InspectFlags {
  std::string path;
  JsonOutput json;
};

// Reads what is at `path`: a .tflite, .litertlm or .task file, or a checkpoint
// directory. What this program could not verify is part of the result. Throws
// Error for what it cannot read at all.
Inspection Inspect(const std::string& path, const StageFn& stage);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_INSPECT_H_
