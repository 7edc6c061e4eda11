#include "cli/self_check_command.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/utf8.h"
#include "candidate/session.h"
#include "cli/version.h"
#include "verify/self_check.h"
#include "verify/stopwatch.h"

namespace verify_tflite {
namespace {

constexpr std::string_view kHint = "verify_tflite selfcheck --help explains it";

int64_t ParseCount(std::string_view flag, std::string_view text,
                   int64_t largest) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || value < 1 || value > largest) {
    throw Error("{}: expected a whole number from 1 to {}, found {}", flag,
                largest, Quote(text));
  }
  return value;
}

void SetFlag(std::string_view flag, std::string_view value,
             SelfCheckFlags& flags) {
  constexpr std::string_view kFlags[] = {"--tflite_path", "--sliding_window",
                                         "--num_threads", "--json"};
  if (std::find(std::begin(kFlags), std::end(kFlags), flag) ==
      std::end(kFlags)) {
    throw Error("{}: unknown ({})", Quote(flag), kHint);
  }
  if (value.empty()) throw Error("{}: the value is empty", flag);
  if (flag == "--tflite_path") {
    flags.tflite_path = value;
  } else if (flag == "--sliding_window") {
    flags.sliding_window = ParseCount(flag, value, int64_t{1} << 31);
  } else if (flag == "--num_threads") {
    flags.num_threads = static_cast<int>(ParseCount(flag, value, 1024));
  } else {
    flags.json = true;
    flags.json_path = value;
  }
}

}  // namespace

bool IsSelfCheck(int argc, const char* const* argv) {
  return argc > 1 && std::string_view(argv[1]) == "selfcheck";
}

std::string SelfCheckHelp() {
  return R"(Does a converted model agree with itself? Needs no checkpoint.

Usage: verify_tflite selfcheck --tflite_path=FILE [flags]

  --tflite_path=FILE    a .tflite or .litertlm file
  --sliding_window=N    sliding_window of the checkpoint's config.json: its
                        boundary is checked; needed by files that take the mask
                        of such layers as input
  --num_threads=N       default: all cores
  --json[=FILE]         print JSON (format: docs/self_check.md); to FILE if named

Feeds the same tokens through decode alone, through every prefill signature and
in several chunks; again after another prompt; with another number of threads;
to the end of the KV cache; and through TFLite's own kernels instead of XNNPACK.
The logits must be the same (docs/self_check.md). It cannot find what is wrong
in the same way everywhere: that takes the checkpoint (verify_tflite --help).

Exit code: 0 consistent, 1 degraded or broken, 2 could not check, 3 inconclusive.
)";
}

std::optional<SelfCheckFlags> ParseSelfCheckFlags(int argc,
                                                  const char* const* argv) {
  SelfCheckFlags flags;
  flags.num_threads =
      static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int i = 2; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") return std::nullopt;
    if (!argument.starts_with("--")) {
      throw Error("selfcheck: {}: expected --flag=value ({})", Quote(argument),
                  kHint);
    }
    const size_t equals = argument.find('=');
    const std::string_view flag = argument.substr(0, equals);
    if (equals != std::string_view::npos) {
      SetFlag(flag, argument.substr(equals + 1), flags);
    } else if (flag == "--json") {
      flags.json = true;
    } else if (i + 1 < argc) {
      SetFlag(flag, argv[++i], flags);
    } else {
      SetFlag(flag, "", flags);
    }
  }
  if (flags.tflite_path.empty()) {
    throw Error("selfcheck: --tflite_path is required ({})", kHint);
  }
  return flags;
}

SelfCheckReport SelfCheckFile(const SelfCheckFlags& flags, const StageFn& stage,
                              const ProgressFn& progress) {
  SelfCheckReport report;
  report.tool_version = kVersion;
  report.tflite_path = flags.tflite_path;
  report.num_threads = flags.num_threads;
  {
    const Stopwatch watch(report.seconds);
    stage("opening " + flags.tflite_path);
    Model::OpenOptions open;
    open.sliding_window = flags.sliding_window;
    const Model model = Model::Open(flags.tflite_path, open);
    report.recipe = model.info().recipe_detail;
    stage("compiling and running " + flags.tflite_path);
    if (progress) progress("compiling", 0, 0);
    Session session = Session::Create(model, SelfCheckPlans(model.info()),
                                      {.num_threads = flags.num_threads});
    SelfCheckResult result = RunSelfCheck(model, session, {},
                                          {.num_threads = flags.num_threads,
                                           .window = flags.sliding_window,
                                           .progress = progress});
    report.checks = std::move(result.checks);
    report.findings = std::move(result.findings);
  }
  return report;
}

}  // namespace verify_tflite
