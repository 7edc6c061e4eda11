#include "cli/recheck.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/flag_values.h"
#include "report/json_reader.h"
#include "result/judge.h"

namespace verify_tflite {
namespace {

constexpr const char* kDescription =
    R"(Judges a saved result again, by other limits, without running anything.)";

constexpr const char* kFooter =
    R"(Examples:
  verify_tflite recheck result.json --max_kld=0.05
  verify_tflite recheck result.json --html=result.html

What was measured stays as it is; checks, outcome and reason are made anew, by
the limits of this version for the file's recipe. Settings that are not given
are those of the run. Exit code as of verification: 0 pass, 1 degraded or
broken, 2 could not check, 3 inconclusive.)";

// Values as written; CLI11 only splits the command line.
struct RawFlags {
  std::string max_kld, max_flips, tolerance, match_tokens;
};

std::optional<double> Positive(const char* flag, const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(ParsePositive(flag, text));
}

}  // namespace

std::function<RecheckFlags()> AddRecheck(CLI::App& command) {
  const auto flags = std::make_shared<RecheckFlags>();
  const auto raw = std::make_shared<RawFlags>();
  command.description(kDescription);
  command.footer(kFooter);
  command.add_option("RESULT", flags->path, "what --json wrote");
  AddValue(command, "--max_kld", raw->max_kld,
           "largest allowed mean KL divergence, in nats", "X");
  AddValue(command, "--max_flips", raw->max_flips,
           "largest allowed share of differing greedy choices,\nties aside",
           "X");
  AddValue(command, "--tolerance", raw->tolerance,
           "largest allowed |logit difference|; float32 files", "X");
  AddValue(command, "--match_tokens", raw->match_tokens,
           "how many first tokens must agree", "N");
  AddReportFlags(command, flags->reports);
  command.add_flag("--quiet", flags->quiet, "print the verdict line only");
  return [flags, raw] {
    if (flags->path.empty()) throw Missing("name the file that --json wrote");
    flags->max_kld = Positive("max_kld", raw->max_kld);
    flags->max_flips = Positive("max_flips", raw->max_flips);
    flags->tolerance = Positive("tolerance", raw->tolerance);
    if (!raw->match_tokens.empty()) {
      flags->match_tokens =
          ParseCount("match_tokens", raw->match_tokens, 1 << 20);
    }
    return *flags;
  };
}

Verification Recheck(const RecheckFlags& flags) {
  Verification v = ReadJsonReportFile(flags.path);
  if (flags.max_kld) v.settings.max_kld = flags.max_kld;
  if (flags.max_flips) v.settings.max_flips = flags.max_flips;
  if (flags.tolerance) {
    v.settings.tolerance = *flags.tolerance;
    v.settings.tolerance_given = true;
  }
  if (flags.match_tokens) v.settings.match_tokens = *flags.match_tokens;
  v.limits = LimitsOf(v);
  Judge(v);
  return v;
}

}  // namespace verify_tflite
