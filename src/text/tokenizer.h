// Runs tokenizer.json with the Hugging Face tokenizers library in
// liblitert-lm.so (as the production runtime LiteRT-LM does), or
// tokenizer.model with SentencePiece.
#ifndef VERIFY_TFLITE_TEXT_TOKENIZER_H_
#define VERIFY_TFLITE_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

// Movable. Encode may be called from several threads at once, Decode may not.
class Tokenizer {
 public:
  // Reads tokenizer.json in `directory` or, where there is none,
  // tokenizer.model as transformers' LlamaTokenizer and GemmaTokenizer in
  // Python do, with tokenizer_config.json and added_tokens.json, or else
  // vocab.json and merges.txt (text/vocab_merges.h). Throws Error when all are
  // missing, for settings of tokenizer_config.json that are not supported, when
  // it is not a tokenizer, or when the tokenizer library cannot be loaded (the
  // message names the package to install). The library itself aborts the
  // process over faults that tokenizer_json.h lists as not checked, after a
  // message on standard error that gives the line and column.
  static Tokenizer Open(const std::string& directory);
  // Does the same for the content of a tokenizer.json; `origin` names it in
  // messages.
  static Tokenizer FromJson(std::string_view text, const std::string& origin);
  // Reads the content of a tokenizer.model as LiteRT-LM and MediaPipe run it.
  // It gets the text as a whole, without tokens added by anything else, so that
  // "<s>" in a text is no token but text. With `bytes_to_unicode` the pieces
  // are written in GPT-2's alphabet, one character for each byte; text is
  // converted to it before encoding and from it after decoding. Encode adds no
  // special tokens and Decode skips none, whatever is asked. Throws Error when
  // SentencePiece does not take the model.
  static Tokenizer FromSentencePiece(std::string_view model,
                                     const std::string& origin,
                                     bool bytes_to_unicode);

  struct Impl;  // text/tokenizer_impl.h
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Returns the token ids of `text`. Throws Error when it is not well-formed
  // UTF-8. With `add_special_tokens` the tokenizer's own post-processor adds
  // BOS and so on. It neither truncates nor pads, whatever tokenizer.json asks
  // for. Aborts the process if a Unigram vocabulary without `unk_id` lacks a
  // character.
  std::vector<int32_t> Encode(std::string_view text,
                              bool add_special_tokens) const;

  // Returns what Encode without special tokens gives for each of `texts`.
  std::vector<std::vector<int32_t>> EncodeAll(
      std::span<const std::string> texts) const;

  // Returns the text of `ids`. It may hold U+FFFD where a token ends inside a
  // character. An id that is no token adds nothing, as in Hugging Face's own
  // decode: models often have more logits than their tokenizer has tokens.
  std::string Decode(std::span<const int32_t> ids,
                     bool skip_special_tokens) const;

  // Returns the id of exactly this token ("</s>"), if there is one.
  std::optional<int32_t> TokenToId(std::string_view token) const;

  // Returns a number that every id is below. Vocabularies with gaps have fewer
  // tokens.
  int64_t vocab_size() const;

 private:
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_TOKENIZER_H_
