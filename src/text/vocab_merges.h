// Reads vocab.json with merges.txt, the form of byte-level BPE before
// tokenizer.json.
#ifndef VERIFY_TFLITE_TEXT_VOCAB_MERGES_H_
#define VERIFY_TFLITE_TEXT_VOCAB_MERGES_H_

#include <string>

namespace verify_tflite {

// Returns whether `directory` has one of the two files.
bool HasVocabOrMerges(const std::string& directory);

// Returns the tokenizer.json that transformers makes of vocab.json, merges.txt,
// tokenizer_config.json and, of older checkpoints, special_tokens_map.json and
// added_tokens.json in `directory` (release 5.24, GPT2Tokenizer and
// Qwen2Tokenizer). Throws Error for another tokenizer_class, which says how to
// split text, for files that are missing or are not what their names say, and
// for settings that are not supported.
std::string TokenizerJsonOfVocabAndMerges(const std::string& directory);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_VOCAB_MERGES_H_
