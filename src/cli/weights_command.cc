#include "cli/weights_command.h"

#include <sys/resource.h>

#include <chrono>
#include <deque>
#include <filesystem>
#include <string_view>
#include <vector>

#include "audit/findings.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "candidate/bundle.h"
#include "candidate/tflite_file.h"
#include "checkpoint/checkpoint.h"

namespace verify_tflite {
namespace {

constexpr int kThreads = 2;

// The files of one model, and the parts of them to audit.
struct Inputs {
  std::deque<MappedFile> files;
  std::vector<AuditInput> parts;
};

// "dir/embedder.tflite" of "dir/model.tflite", as the converter names them.
std::string EmbedderBeside(const std::string& path) {
  constexpr std::string_view kModel = "model";
  const std::filesystem::path file(path);
  std::string name = file.filename();
  if (!name.starts_with(kModel)) return "";
  name.replace(0, kModel.size(), "embedder");
  return file.parent_path() / name;
}

Inputs OpenInputs(const std::string& path) {
  Inputs inputs;
  const auto& file = inputs.files.emplace_back(path);
  if (Bundle::IsBundle(file.bytes())) {
    const Bundle bundle = Bundle::Read(file.bytes(), path);
    inputs.parts.push_back(
        {bundle.PrefillDecode().bytes, path + ": the model's section", true});
    for (const char* type : {"embedder", "per_layer_embedder"}) {
      if (const BundleSection* embedder = bundle.Embedder(type)) {
        inputs.parts.push_back(
            {embedder->bytes, path + ": the embedder's section", true});
      }
    }
    return inputs;
  }
  if (!IsTflite(file.bytes())) {
    throw Error("{}: is neither a .tflite nor a .litertlm file", path);
  }
  inputs.parts.push_back({file.bytes(), path, true});
  const std::string beside = EmbedderBeside(path);
  std::error_code ignored;
  if (!beside.empty() && std::filesystem::exists(beside, ignored)) {
    const auto& embedder = inputs.files.emplace_back(beside);
    inputs.parts.push_back({embedder.bytes(), beside, true});
  }
  return inputs;
}

// "--flag=value" or "--flag value"; moves `i` to the last argument taken.
bool Take(std::string_view flag, int argc, const char* const* argv, int& i,
          std::string& value) {
  const std::string_view argument = argv[i];
  if (argument == flag) {
    if (i + 1 == argc) throw Error("{}: the value is missing", flag);
    value = argv[++i];
  } else if (argument.starts_with(flag) && argument[flag.size()] == '=') {
    value = argument.substr(flag.size() + 1);
  } else {
    return false;
  }
  if (value.empty()) throw Error("{}: the value is empty", flag);
  return true;
}

}  // namespace

bool IsWeights(int argc, const char* const* argv) {
  return argc > 1 && std::string_view(argv[1]) == "weights";
}

std::string WeightsHelp() {
  return R"(Are the weights of a converted model those of a checkpoint?

Usage: verify_tflite weights --tflite_path=FILE --checkpoint_path=PATH
                             [--json[=FILE]]

  --tflite_path      a .tflite or .litertlm file
  --checkpoint_path  a directory with config.json, or a weight file in one
  --json             print JSON (format: docs/weights.md); to FILE if named

Nothing runs: every weight of the file is compared with the checkpoint's,
element by element, and must be its rounding.
Exit code: 0 all are, 1 some are not, 2 could not be checked.
)";
}

std::optional<WeightsFlags> ParseWeightsFlags(int argc,
                                              const char* const* argv) {
  WeightsFlags flags;
  for (int i = 2; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") return std::nullopt;
    if (argument == "--json") {
      flags.json = true;
    } else if (Take("--json", argc, argv, i, flags.json_path)) {
      flags.json = true;
    } else if (!Take("--tflite_path", argc, argv, i, flags.tflite_path) &&
               !Take("--checkpoint_path", argc, argv, i,
                     flags.checkpoint_path)) {
      throw Error("{}: unknown (verify_tflite weights --help explains it)",
                  Quote(argument));
    }
  }
  if (flags.tflite_path.empty() || flags.checkpoint_path.empty()) {
    throw Error(
        "weights: --tflite_path=FILE and --checkpoint_path=PATH are needed "
        "(verify_tflite weights --help)");
  }
  return flags;
}

WeightReport RunWeights(const WeightsFlags& flags, const StageFn& stage) {
  const auto start = std::chrono::steady_clock::now();
  WeightReport report;
  report.tflite_path = flags.tflite_path;
  report.checkpoint_path = flags.checkpoint_path;
  stage("opening checkpoint " + flags.checkpoint_path);
  const Checkpoint checkpoint = Checkpoint::Open(flags.checkpoint_path);
  stage("opening " + flags.tflite_path);
  const Inputs inputs = OpenInputs(flags.tflite_path);
  stage("comparing the weights of " + flags.tflite_path);
  report.audit = AuditWeights(inputs.parts, checkpoint, kThreads);
  report.findings = FindingsOf(report.audit);
  report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  report.peak_memory_bytes = int64_t{usage.ru_maxrss} * 1024;
  return report;
}

}  // namespace verify_tflite
