// Compiling a model for the CPU and running its signatures.
#ifndef VERIFY_TFLITE_CANDIDATE_COMPILED_MODEL_H_
#define VERIFY_TFLITE_CANDIDATE_COMPILED_MODEL_H_

#include <string>
#include <vector>

#include "base/error.h"
#include "candidate/cpu_options.h"
#include "candidate/runtime.h"
#include "candidate/signatures.h"

namespace verify_tflite {

using CompiledModel = Owned<&Runtime::LiteRtDestroyCompiledModel>;

// Compiles the named signatures. A failure's Error has the reason, which a
// failed compilation only ever writes to standard error, and only if asked to.
CompiledModel CompileOrExplain(const std::string& path, LiteRtModel model,
                               const std::vector<std::string>& signatures,
                               const CpuOptions& options);

// What the runtime reported since the last call.
std::string TakeErrorText(LiteRtCompiledModel compiled);

// Call; a failure's Error has the reason.
template <typename... Parameters, typename... Arguments>
void CallCompiled(const std::string& what,
                  LiteRtStatus (*function)(LiteRtCompiledModel, Parameters...),
                  LiteRtCompiledModel compiled, Arguments... arguments) {
  try {
    Call(what, function, compiled, arguments...);
  } catch (const Error& e) {
    throw Error("{}{}", e.what(), CleanReason(TakeErrorText(compiled)));
  }
}

// Throws Error where the graph computes another shape than the file declares:
// where it makes more, the runtime would write past the end of our buffer.
void CheckOutputShapes(LiteRtCompiledModel compiled, const std::string& origin,
                       const SignatureSpec& signature);

// Handles in the order of the signature's inputs and outputs; `signature` is
// its index in the file. A failure's Error begins with `origin`.
void RunSignature(LiteRtCompiledModel compiled, const std::string& origin,
                  size_t signature, std::vector<LiteRtTensorBuffer>& inputs,
                  std::vector<LiteRtTensorBuffer>& outputs);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_COMPILED_MODEL_H_
