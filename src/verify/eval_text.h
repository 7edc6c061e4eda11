// The text that both models are given to predict.
#ifndef VERIFY_TFLITE_VERIFY_EVAL_TEXT_H_
#define VERIFY_TFLITE_VERIFY_EVAL_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

struct EvalText {
  struct Part {
    std::string name;  // "prose", "code", …
    std::string text;  // UTF-8
  };
  std::string source;  // "built-in" or the file's path
  std::vector<Part> parts;
};

// Returns the text that was written for this program (src/verify/eval_text/):
// prose, a chat, code, numbers and tables, eight languages; about 2,400 tokens
// of SmolLM2's tokenizer.
EvalText BuiltInEvalText();

// Returns a file of UTF-8 text, as one part. Throws Error when it cannot be
// read, is no UTF-8 or is empty.
EvalText ReadEvalText(const std::string& path);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_EVAL_TEXT_H_
