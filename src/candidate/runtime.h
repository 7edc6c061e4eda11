// libLiteRt.so, loaded at run time, and the errors of its calls as Error.
#ifndef VERIFY_TFLITE_CANDIDATE_RUNTIME_H_
#define VERIFY_TFLITE_CANDIDATE_RUNTIME_H_

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/number.h"
#include "candidate/litert_abi.h"

namespace verify_tflite {

// "INVALID_ARGUMENT", …; the number for a status that this table lacks.
std::string StatusText(LiteRtStatus status);
// Translate the runtime's number of a type; kUnknown and kLiteRtElementTypeNone
// stand for one that has none on the other side.
ElementType FromAbi(LiteRtElementType type);
LiteRtElementType ToAbi(ElementType type);

// What is worth reading of the runtime's own text, each line on a new, indented
// one: without blank lines and without notes ("INFO: Created TensorFlow Lite
// XNNPACK delegate for CPU.").
std::string CleanReason(std::string_view text);

// Calls a function of the runtime. Throws Error("<what>: <reason>") unless it
// returns Ok. The C interface lets C++ exceptions through (seen from
// LiteRtRunCompiledModel on a signature that maps a tensor which is no input).
template <typename... Parameters, typename... Arguments>
void Call(std::string_view what, LiteRtStatus (*function)(Parameters...),
          Arguments... arguments) {
  LiteRtStatus status = kLiteRtStatusErrorUnknown;
  try {
    status = function(arguments...);
  } catch (const std::exception& e) {
    throw Error("{}: LiteRT threw {}", what, e.what());
  } catch (...) {
    throw Error("{}: LiteRT threw an exception", what);
  }
  if (status != kLiteRtStatusOk) {
    throw Error("{}: LiteRT reports {}", what, StatusText(status));
  }
}

// The functions of litert_abi.h that this project calls, by name.
#define VERIFY_TFLITE_LITERT_FUNCTIONS(X)               \
  X(LiteRtCreateEnvironment)                            \
  X(LiteRtDestroyEnvironment)                           \
  X(LiteRtCreateModelFromBuffer)                        \
  X(LiteRtDestroyModel)                                 \
  X(LiteRtCreateOptions)                                \
  X(LiteRtDestroyOptions)                               \
  X(LiteRtSetOptionsHardwareAccelerators)               \
  X(LiteRtCreateOpaqueOptions)                          \
  X(LiteRtAddOpaqueOptions)                             \
  X(LiteRtCreateCompiledModel)                          \
  X(LiteRtDestroyCompiledModel)                         \
  X(LiteRtGetCompiledModelOutputTensorLayouts)          \
  X(LiteRtRunCompiledModel)                             \
  X(LiteRtCompiledModelGetErrorMessages)                \
  X(LiteRtCompiledModelClearErrors)                     \
  X(LiteRtCreateTensorBufferFromHostMemory)             \
  X(LiteRtDestroyTensorBuffer)

// The table of functions and the one environment of the process.
struct Runtime {
  // Loads the library at the first call. Throws Error that names the package
  // to install when it is missing or is another version than this table fits.
  static const Runtime& Get();

#define VERIFY_TFLITE_LITERT_MEMBER(name) decltype(&::name) name = nullptr;
  VERIFY_TFLITE_LITERT_FUNCTIONS(VERIFY_TFLITE_LITERT_MEMBER)
#undef VERIFY_TFLITE_LITERT_MEMBER

  // Writes nothing to the log.
  LiteRtEnvironment environment = nullptr;

 private:
  Runtime();
};

// Owns a handle of the runtime: Owned<&Runtime::LiteRtDestroyModel> model.
template <auto kDestroy>
class Owned {
  template <typename Handle>
  static Handle HandleOf(void (*Runtime::*)(Handle));

 public:
  using Handle = decltype(HandleOf(kDestroy));

  Owned() = default;
  ~Owned() {
    if (handle_ != nullptr) (Runtime::Get().*kDestroy)(handle_);
  }
  Owned(Owned&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  Handle get() const { return handle_; }
  // Where a creating function puts a new handle; only for an empty owner.
  Handle* receive() { return &handle_; }

 private:
  Handle handle_ = nullptr;
};

// Makes the runtime's log, which is one for the process, write errors to
// standard error as long as this lives.
class ErrorLog {
 public:
  ErrorLog();
  ~ErrorLog();
  ErrorLog(const ErrorLog&) = delete;
  ErrorLog& operator=(const ErrorLog&) = delete;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_RUNTIME_H_
