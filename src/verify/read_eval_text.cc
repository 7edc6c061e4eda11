#include "base/error.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "verify/eval_text.h"

namespace verify_tflite {

EvalText ReadEvalText(const std::string& path) {
  const MappedFile file(path);
  std::string text(reinterpret_cast<const char*>(file.bytes().data()),
                   file.bytes().size());
  const size_t fault = FindInvalidUtf8(text);
  if (fault != std::string::npos) {
    throw Error("{}: expected text in UTF-8, found something else at byte {}",
                path, fault);
  }
  if (text.empty()) throw Error("{}: no text in it", path);
  return {path, {{"text", std::move(text)}}};
}

}  // namespace verify_tflite
