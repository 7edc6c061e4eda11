// Finds the tokens at which generation ends.
#ifndef VERIFY_TFLITE_TEXT_EOS_H_
#define VERIFY_TFLITE_TEXT_EOS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace verify_tflite {

// Holds them as transformers' generate() finds them: `eos_token_id` (a number
// or a list) of generation_config.json in `directory`; else of config.json;
// else of the text model's part of it (`text_config`, in models of text and
// images); else the id of tokenizer_config.json's `eos_token`. They are sorted
// and unique, and empty when the checkpoint names none. A number that is no
// token's id (-1, or one beyond the vocabulary) is never generated, so
// transformers never stops at it. It is left out, with a note of one sentence.
// Such a `bos_token_id` or `pad_token_id`, which nothing here reads, gets a
// note, too. ReadEosIds throws Error for what is no integer.
struct EosIds {
  std::vector<int32_t> ids;
  std::vector<std::string> notes;
};
EosIds ReadEosIds(const std::string& directory, const Tokenizer& tokenizer);

// Returns the id of tokenizer_config.json's `eos_token`, whatever the other
// files say; none where it names none that is a token.
std::optional<int32_t> EosOfTokenizerConfig(const std::string& directory,
                                            const Tokenizer& tokenizer);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_EOS_H_
