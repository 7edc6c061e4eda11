// Runs the command `verify_tflite recheck`.
#ifndef VERIFY_TFLITE_CLI_RECHECK_H_
#define VERIFY_TFLITE_CLI_RECHECK_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cli/report_files.h"
#include "result/verification.h"

namespace CLI {
class App;
}

namespace verify_tflite {

struct RecheckFlags {
  std::string path = "";  // what --json wrote
  // These replace the settings in the file.
  std::optional<double> max_kld = std::nullopt;
  std::optional<double> max_flips = std::nullopt;
  std::optional<double> tolerance = std::nullopt;
  std::optional<int64_t> match_tokens = std::nullopt;
  ReportFiles reports = {};
  bool quiet = false;
};

// Adds the command's flags; what is returned reads them after the parse. Throws
// Missing without a path, and Error for a bad value.
std::function<RecheckFlags()> AddRecheck(CLI::App& command);

// Reads the file and judges it by this version's limits. Throws Error when it
// cannot be read.
Verification Recheck(const RecheckFlags& flags);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_RECHECK_H_
