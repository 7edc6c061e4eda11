// Runs the command `verify_tflite recheck`.
#ifndef VERIFY_TFLITE_CLI_RECHECK_H_
#define VERIFY_TFLITE_CLI_RECHECK_H_

#include <cstdint>
#include <optional>
#include <string>

#include "cli/report_files.h"
#include "result/verification.h"

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

// Returns no value for --help. Throws Error for an unknown flag, a bad value,
// or other than one path.
std::optional<RecheckFlags> ParseRecheckFlags(int argc,
                                              const char* const* argv);
std::string RecheckHelp();

// Reads the file and judges it by this version's limits. Throws Error when it
// cannot be read.
Verification Recheck(const RecheckFlags& flags);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_RECHECK_H_
