// The interface of the two libraries that Tokenizer uses.
#ifndef VERIFY_TFLITE_TEXT_TOKENIZER_IMPL_H_
#define VERIFY_TFLITE_TEXT_TOKENIZER_IMPL_H_

#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace verify_tflite {

// Returns where the text begins; C libraries refuse a null pointer, which an
// empty view may hold.
inline const char* NotNull(std::string_view text) {
  return text.empty() ? "" : text.data();
}

// The functions are those of Tokenizer; `text` is well-formed UTF-8.
struct Tokenizer::Impl {
  virtual ~Impl() = default;
  virtual std::vector<int32_t> Encode(std::string_view text,
                                      bool add_special_tokens) const = 0;
  virtual std::string Decode(std::span<const int32_t> ids,
                             bool skip_special_tokens) const = 0;
  virtual std::optional<int32_t> TokenToId(std::string_view token) const = 0;
  virtual int64_t vocab_size() const = 0;

  // They open the content of a tokenizer.json, which `origin` names in
  // messages, and the tokenizer.model of `directory`.
  static std::unique_ptr<Impl> OpenHuggingFace(std::string_view text,
                                               const std::string& origin);
  static std::unique_ptr<Impl> OpenSentencePiece(const std::string& directory);
  static std::unique_ptr<Impl> OpenPlainSentencePiece(std::string_view model,
                                                      const std::string& origin,
                                                      bool bytes_to_unicode);
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_TOKENIZER_IMPL_H_
