#include "candidate/compiled_model.h"

#include <fmt/ranges.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "candidate/stderr_capture.h"

namespace verify_tflite {
namespace {

// A failing kernel can report the same line thousands of times.
constexpr size_t kMaxReason = 2000;

// Where the runtime's error text goes: its error_reporter_mode.
enum class ErrorText { kToStderr = 1, kToBuffer = 2 };

// The runtime takes options as text, `key = value` a line, and ignores what it
// does not know.
void AddOptions(LiteRtOptions options, const char* reader,
                const std::string& text) {
  const auto& lib = Runtime::Get();
  char* copy = strdup(text.c_str());
  LiteRtOpaqueOptions opaque = nullptr;
  Call("LiteRT options", lib.LiteRtCreateOpaqueOptions, reader,
       static_cast<void*>(copy), std::free, &opaque);
  Call("LiteRT options", lib.LiteRtAddOpaqueOptions, options, opaque);
}

// The cache in memory is a file to the system, and the runtime aborts where it
// may not grow (ulimit -f).
bool MayGrowFiles() {
  rlimit limit{};
  return getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
         limit.rlim_cur == RLIM_INFINITY;
}

// Of XNNPACK. Without a weight cache every signature packs all weights again.
// The cache is in memory, because one on disk that belongs to another model of
// the same structure is taken without notice and gives wrong results.
std::string KernelOptions(Kernels kernels) {
  if (kernels == Kernels::kBuiltin) return "kernel_mode = \"builtin\"\n";
  return MayGrowFiles() ? "weight_cache_file_path = \":memory\"\n" : "";
}

CompiledModel Compile(const std::string& path, LiteRtModel model,
                      const std::vector<std::string>& signatures,
                      const CpuOptions& cpu_options, ErrorText error_text) {
  const auto& lib = Runtime::Get();
  Owned<&Runtime::LiteRtDestroyOptions> options;
  Call("LiteRT options", lib.LiteRtCreateOptions, options.receive());
  Call("LiteRT options", lib.LiteRtSetOptionsHardwareAccelerators,
       options.get(), kLiteRtHwAcceleratorCpu);
  const std::string cpu =
      fmt::format("num_threads = {}\n{}", cpu_options.num_threads,
                  KernelOptions(cpu_options.kernels));
  // "xnnpack" is for XNNPACK's operators, "cpu_delegate" for all others.
  AddOptions(options.get(), "xnnpack", cpu);
  AddOptions(options.get(), "cpu_delegate", cpu);
  AddOptions(options.get(), "runtime_options_string",
             fmt::format("error_reporter_mode = {}\n"
                         "selected_signature_keys = [\"{}\"]\n",
                         static_cast<int>(error_text),
                         fmt::join(signatures, "\", \"")));
  CompiledModel compiled;
  Call(path + ": cannot be compiled for the CPU", lib.LiteRtCreateCompiledModel,
       lib.environment, model, options.get(), compiled.receive());
  return compiled;
}

}  // namespace

CompiledModel CompileOrExplain(const std::string& path, LiteRtModel model,
                               const std::vector<std::string>& signatures,
                               const CpuOptions& options) {
  const StderrCapture capture;
  try {
    return Compile(path, model, signatures, options, ErrorText::kToBuffer);
  } catch (const Error&) {
    const ErrorLog log;
    try {
      return Compile(path, model, signatures, options, ErrorText::kToStderr);
    } catch (const Error& e) {
      throw Error("{}{}", e.what(), CleanReason(capture.Text(kMaxReason)));
    }
  }
}

// What the runtime reported since the last call.
std::string TakeErrorText(LiteRtCompiledModel compiled) {
  const auto& lib = Runtime::Get();
  char* text = nullptr;
  if (lib.LiteRtCompiledModelGetErrorMessages(compiled, &text) !=
          kLiteRtStatusOk ||
      text == nullptr) {
    return "";
  }
  const std::string reason(text, strnlen(text, kMaxReason));
  std::free(text);
  lib.LiteRtCompiledModelClearErrors(compiled);
  return reason;
}

void CheckOutputShapes(LiteRtCompiledModel compiled, const std::string& origin,
                       const SignatureSpec& signature) {
  const std::vector<TensorSpec>& outputs = signature.outputs;
  std::vector<LiteRtLayout> layouts(outputs.size());
  CallCompiled(origin, Runtime::Get().LiteRtGetCompiledModelOutputTensorLayouts,
               compiled, signature.index, layouts.size(), layouts.data(),
               /*update_allocation=*/true);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto rank = std::min<unsigned>(layouts[i].rank, kLiteRtMaxRank);
    const std::vector<int64_t> computed(layouts[i].dimensions,
                                        layouts[i].dimensions + rank);
    if (computed == outputs[i].dims) continue;
    throw Error("{}: the graph computes [{}] for {}; the file is damaged",
                origin, fmt::join(computed, ", "), Describe(outputs[i]));
  }
}

void RunSignature(LiteRtCompiledModel compiled, const std::string& origin,
                  size_t signature, std::vector<LiteRtTensorBuffer>& inputs,
                  std::vector<LiteRtTensorBuffer>& outputs) {
  CallCompiled(origin, Runtime::Get().LiteRtRunCompiledModel, compiled,
               signature, inputs.size(), inputs.data(), outputs.size(),
               outputs.data());
}

}  // namespace verify_tflite
