// Checks a tokenizer.json before the tokenizer library reads it: the library
// ends the process over a file it does not understand.
#ifndef VERIFY_TFLITE_TEXT_TOKENIZER_JSON_H_
#define VERIFY_TFLITE_TEXT_TOKENIZER_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace verify_tflite {

struct TokenizerJson {
  int64_t max_id = -1;     // of `vocab` and `added_tokens`
  bool truncates = false;  // `truncation` is not null
  bool pads = false;       // `padding` is not null
  std::string unk_token;   // of `model`; empty if none
  // `ignore_merges` of `model`: a word that is a token is taken as it is.
  bool ignores_merges = false;
};

// Reads `text` once without building a tree. Throws Error, with `path` in the
// message, unless it is well-formed JSON in UTF-8, its sections are those the
// library knows, `model` is of a known type with a vocabulary (and merges where
// the type has them) of the right shape, and every added token is complete.
//
// Some things are not checked, so that the library still ends the process over
// them: the insides of normalizer, pre_tokenizer, post_processor and decoder
// (an unknown type, a regular expression that does not compile), the model's
// affixes and dropout beyond their types, merges of tokens that the vocabulary
// lacks, and an unk_token that is an added token only.
TokenizerJson CheckTokenizerJson(std::string_view text,
                                 const std::string& path);

// Returns `text` with `truncation` and `padding` set to null.
std::string WithoutTruncationAndPadding(std::string_view text);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_TOKENIZER_JSON_H_
