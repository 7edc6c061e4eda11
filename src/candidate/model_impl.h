// What Model hides from its users and shares with Session.
#ifndef VERIFY_TFLITE_CANDIDATE_MODEL_IMPL_H_
#define VERIFY_TFLITE_CANDIDATE_MODEL_IMPL_H_

#include <optional>
#include <string>

#include "base/mapped_file.h"
#include "candidate/bundle.h"
#include "candidate/model.h"
#include "candidate/runtime.h"
#include "candidate/signatures.h"

namespace verify_tflite {

struct Model::Impl {
  explicit Impl(const std::string& path) : file(path) {}

  MappedFile file;
  std::optional<Bundle> bundle;  // what the file is, if not a .tflite
  // Behind the file it lies in, so that it goes first.
  Owned<&Runtime::LiteRtDestroyModel> handle;
  LlmSignatures signatures;
  ModelInfo info;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_MODEL_IMPL_H_
