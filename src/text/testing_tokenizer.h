// A tokenizer.json of four tokens for tests: "ab a c" is 3 1 0.
#ifndef VERIFY_TFLITE_TEXT_TESTING_TOKENIZER_H_
#define VERIFY_TFLITE_TEXT_TESTING_TOKENIZER_H_

#include <string_view>

namespace verify_tflite {

constexpr std::string_view kSmallTokenizer = R"({
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
    {"id": 0, "content": "<unk>", "single_word": false, "lstrip": false,
     "rstrip": false, "normalized": false, "special": true}
  ],
  "normalizer": {"type": "NFC"},
  "pre_tokenizer": {"type": "Whitespace"},
  "post_processor": null,
  "decoder": {"type": "Fuse"},
  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": "<unk>",
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3},
    "merges": [["a", "b"]]
  }
})";

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_TESTING_TOKENIZER_H_
