#include "candidate/runtime.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <type_traits>
#include <utility>

#include "base/python_library.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

namespace fs = std::filesystem;

constexpr char kRequirement[] = "ai-edge-litert==2.3.0";
// Functions gained parameters between minor versions without a new name (the
// environment of LiteRtCreateModelFromBuffer, for one).
constexpr std::string_view kVersionPrefix = "2.3.";

constexpr std::pair<int, std::string_view> kStatusNames[] = {
    {0, "OK"},
    {1, "INVALID_ARGUMENT"},
    {2, "MEMORY_ALLOCATION_FAILURE"},
    {3, "RUNTIME_FAILURE"},
    {4, "MISSING_INPUT_TENSOR"},
    {5, "UNSUPPORTED"},
    {6, "NOT_FOUND"},
    {7, "TIMEOUT_EXPIRED"},
    {8, "WRONG_VERSION"},
    {9, "UNKNOWN"},
    {10, "ALREADY_EXISTS"},
    {100, "CANCELLED"},
    {500, "FILE_IO"},
    {501, "INVALID_FLATBUFFER"},
    {502, "DYNAMIC_LOADING"},
    {503, "SERIALIZATION"},
    {504, "COMPILATION"},
    {1000, "INDEX_OUT_OF_BOUNDS"},
    {1001, "INVALID_IR_TYPE"},
    {1002, "INVALID_GRAPH_INVARIANT"},
    {1003, "GRAPH_MODIFICATION"},
    {1500, "INVALID_TOOL_CONFIG"},
    {2000, "LEGALIZE_NO_MATCH"},
    {2001, "INVALID_LEGALIZATION"},
    {3000, "PATTERN_NO_MATCH"},
    {3001, "INVALID_TRANSFORMATION"},
    {4000, "UNSUPPORTED_RUNTIME_VERSION"},
    {4001, "UNSUPPORTED_COMPILER_VERSION"},
    {4002, "INCOMPATIBLE_BYTE_CODE_VERSION"},
    {5000, "UNSUPPORTED_OP_SHAPE_INFERER"},
    {5001, "SHAPE_INFERENCE_FAILED"},
};

constexpr std::pair<LiteRtElementType, ElementType> kElementTypes[] = {
    {kLiteRtElementTypeFloat32, ElementType::kFloat32},
    {kLiteRtElementTypeInt32, ElementType::kInt32},
    {kLiteRtElementTypeUInt8, ElementType::kUInt8},
    {kLiteRtElementTypeInt64, ElementType::kInt64},
    {kLiteRtElementTypeBool, ElementType::kBool},
    {kLiteRtElementTypeInt16, ElementType::kInt16},
    {kLiteRtElementTypeInt8, ElementType::kInt8},
    {kLiteRtElementTypeFloat16, ElementType::kFloat16},
    {kLiteRtElementTypeFloat64, ElementType::kFloat64},
    {kLiteRtElementTypeUInt64, ElementType::kUInt64},
    {kLiteRtElementTypeUInt32, ElementType::kUInt32},
    {kLiteRtElementTypeUInt16, ElementType::kUInt16},
    {kLiteRtElementTypeInt4, ElementType::kInt4},
    {kLiteRtElementTypeBFloat16, ElementType::kBFloat16},
    {kLiteRtElementTypeInt2, ElementType::kInt2},
    {kLiteRtElementTypeUInt4, ElementType::kUInt4},
};

// Looks for another version's metadata in the site-packages of `library`; a
// copy of the library that stands alone passes.
void CheckVersion(const std::string& library) {
  constexpr std::string_view kName = "ai_edge_litert-";
  std::error_code error;
  const fs::path packages = fs::path(library).parent_path().parent_path();
  for (fs::directory_iterator it(packages, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kName) || !name.ends_with(".dist-info")) continue;
    if (name.substr(kName.size()).starts_with(kVersionPrefix)) return;
    throw Error(
        "{}: belongs to {}, expected version {}x. Install it with\n"
        "  pip install '{}'",
        library, name.substr(0, name.rfind('.')), kVersionPrefix, kRequirement);
  }
}

LiteRtEnvOption IntOption(LiteRtEnvOptionTag tag, int64_t value) {
  LiteRtEnvOption option = {};
  option.tag = tag;
  option.value.type = kLiteRtAnyTypeInt;
  option.value.int_value = value;
  return option;
}

// The severity that the newest environment asks for holds for all of them.
LiteRtEnvironment NewEnvironment(const Runtime& lib, int log_severity) {
  // The CPU alone: another accelerator would be looked for on disk, and the
  // answers of a GPU are not what this program checks.
  const std::array options = {
      IntOption(kLiteRtEnvOptionTagAutoRegisterAccelerators,
                kLiteRtHwAcceleratorCpu),
      IntOption(kLiteRtEnvOptionTagMinLoggerSeverity, log_severity),
  };
  LiteRtEnvironment environment = nullptr;
  Call("cannot start LiteRT", lib.LiteRtCreateEnvironment,
       static_cast<int>(options.size()), options.data(), &environment);
  return environment;
}

void SetLogSeverity(int severity) {
  const Runtime& lib = Runtime::Get();
  lib.LiteRtDestroyEnvironment(NewEnvironment(lib, severity));
}

}  // namespace

std::string StatusText(LiteRtStatus status) {
  for (const auto& [value, name] : kStatusNames) {
    if (value == status) return std::string(name);
  }
  return fmt::format("status {}", static_cast<int>(status));
}

ElementType FromAbi(LiteRtElementType type) {
  for (const auto& [abi, own] : kElementTypes) {
    if (abi == type) return own;
  }
  return ElementType::kUnknown;
}

LiteRtElementType ToAbi(ElementType type) {
  for (const auto& [abi, own] : kElementTypes) {
    if (own == type) return abi;
  }
  return kLiteRtElementTypeNone;
}

std::string CleanReason(std::string_view text) {
  std::string reason;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.empty() || line.starts_with("INFO:")) continue;
    reason += "\n  " + ReplaceInvalidUtf8(line);
  }
  return reason;
}

const Runtime& Runtime::Get() {
  // Never destroyed: handles in static storage may outlive main().
  static const Runtime* const kRuntime = new Runtime;
  return *kRuntime;
}

Runtime::Runtime() {
  const std::string path =
      FindPythonLibrary({.package_dir = "ai_edge_litert",
                         .file_name = "libLiteRt.so",
                         .env_variable = "VERIFY_TFLITE_LITERT",
                         .requirement = kRequirement});
  CheckVersion(path);
  const SharedLibrary library(path);
#define VERIFY_TFLITE_LITERT_LOAD(name) \
  name = library.Symbol<decltype(::name)>(#name);
  VERIFY_TFLITE_LITERT_FUNCTIONS(VERIFY_TFLITE_LITERT_LOAD)
#undef VERIFY_TFLITE_LITERT_LOAD

  environment = NewEnvironment(*this, kLiteRtLogSeveritySilent);
}

ErrorLog::ErrorLog() { SetLogSeverity(kLiteRtLogSeverityError); }

ErrorLog::~ErrorLog() {
  try {
    SetLogSeverity(kLiteRtLogSeveritySilent);
  } catch (const Error&) {
    // It stays talkative.
  }
}

}  // namespace verify_tflite
