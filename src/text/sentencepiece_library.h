// Runs a SentencePiece model with libsentencepiece.
#ifndef VERIFY_TFLITE_TEXT_SENTENCEPIECE_LIBRARY_H_
#define VERIFY_TFLITE_TEXT_SENTENCEPIECE_LIBRARY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

// What stands for a space inside a piece: U+2581.
inline constexpr std::string_view kSentencePieceSpace = "\xE2\x96\x81";

class SentencePieceModel {
 public:
  // `proto` is the content of a tokenizer.model, `path` names it in messages.
  // Throws Error when the library cannot be loaded or does not take the model.
  SentencePieceModel(std::string_view proto, const std::string& path);

  int32_t size() const;
  bool IsByte(int32_t id) const;
  // `id` must be from 0 to size() - 1.
  std::string_view Piece(int32_t id) const;
  // Returns the id of the unknown piece if `piece` is none.
  int32_t PieceToId(std::string_view piece) const;
  // Throws Error when the library fails.
  std::vector<int32_t> Encode(std::string_view text) const;

 private:
  struct Close {
    void operator()(void* handle) const;
  };
  std::unique_ptr<void, Close> handle_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_SENTENCEPIECE_LIBRARY_H_
