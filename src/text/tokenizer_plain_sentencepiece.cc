// A SentencePiece model as the runtimes of bundles run it
// (sentencepiece_tokenizer.cc of LiteRT-LM).
#include <array>
#include <charconv>
#include <string>

#include "base/utf8.h"
#include "text/sentencepiece_library.h"
#include "text/tokenizer_impl.h"

namespace verify_tflite {
namespace {

std::string Utf8(uint32_t code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  // GPT-2's alphabet ends at U+0143.
  return {static_cast<char>(0xC0 | code >> 6),
          static_cast<char>(0x80 | (code & 0x3F))};
}

// GPT-2's characters for the 256 bytes (bytes_to_unicode in encoder.py of
// github.com/openai/gpt-2): printable ones stand for themselves, all others in
// their order for U+0100 on.
std::array<std::string, 256> ByteAlphabet() {
  std::array<std::string, 256> alphabet;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) ||
                           (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    alphabet[byte] = Utf8(printable ? byte : next++);
  }
  return alphabet;
}

class PlainSentencePiece final : public Tokenizer::Impl {
 public:
  PlainSentencePiece(std::string_view model, const std::string& origin,
                     bool bytes_to_unicode)
      : model_(model, origin), bytes_to_unicode_(bytes_to_unicode) {}

  std::vector<int32_t> Encode(std::string_view text,
                              bool /*add_special_tokens*/) const override {
    if (!bytes_to_unicode_) return model_.Encode(text);
    std::string mapped;
    for (const char c : text) mapped += alphabet_[static_cast<uint8_t>(c)];
    return model_.Encode(mapped);
  }

  std::string Decode(std::span<const int32_t> ids,
                     bool /*skip_special_tokens*/) const override {
    std::string text;
    for (const int32_t id : ids) text += TextOf(id);
    return ReplaceInvalidUtf8(text);
  }

  std::optional<int32_t> TokenToId(std::string_view token) const override {
    const int32_t id = model_.PieceToId(token);
    if (id < 0 || id >= model_.size() || model_.Piece(id) != token) {
      return std::nullopt;
    }
    return id;
  }

  int64_t vocab_size() const override { return model_.size(); }

 private:
  std::string TextOf(int32_t id) const {
    if (id < 0 || id >= model_.size()) return {};
    const std::string_view piece = model_.Piece(id);
    if (bytes_to_unicode_) return Bytes(piece);
    if (model_.IsByte(id)) return ByteOf(piece);
    std::string text;
    for (size_t at = 0; at < piece.size();) {
      const bool space = piece.substr(at).starts_with(kSentencePieceSpace);
      text += space ? ' ' : piece[at];
      at += space ? kSentencePieceSpace.size() : 1;
    }
    return text;
  }

  // "<0x0A>"
  static std::string ByteOf(std::string_view piece) {
    uint8_t value = 0;
    if (piece.size() == 6) {
      std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
    }
    return std::string(1, static_cast<char>(value));
  }

  // What does not begin with a character of the alphabet stays as it is:
  // control pieces are no text of its alphabet.
  std::string Bytes(std::string_view piece) const {
    std::string bytes;
    while (!piece.empty()) {
      size_t taken = 1;
      char byte = piece.front();
      for (size_t value = 0; value < alphabet_.size(); ++value) {
        if (!piece.starts_with(alphabet_[value])) continue;
        taken = alphabet_[value].size();
        byte = static_cast<char>(value);
        break;
      }
      bytes += byte;
      piece.remove_prefix(taken);
    }
    return bytes;
  }

  SentencePieceModel model_;
  bool bytes_to_unicode_;
  std::array<std::string, 256> alphabet_ = ByteAlphabet();
};

}  // namespace

std::unique_ptr<Tokenizer::Impl> Tokenizer::Impl::OpenPlainSentencePiece(
    std::string_view model, const std::string& origin, bool bytes_to_unicode) {
  return std::make_unique<PlainSentencePiece>(model, origin, bytes_to_unicode);
}

}  // namespace verify_tflite
