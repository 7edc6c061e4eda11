// Compares what a bundle is packed with (stop tokens, start token, chat
// template, tokenizer) with the checkpoint's. A sound model in a bundle with
// another template or without its stop token is not the same model to those who
// chat with it.
#ifndef VERIFY_TFLITE_VERIFY_BUNDLE_CHECK_H_
#define VERIFY_TFLITE_VERIFY_BUNDLE_CHECK_H_

#include <cstdint>
#include <span>
#include <string>

#include "result/verification.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "tflite/bundle.h"

namespace verify_tflite {

struct BundleCheckInput {
  const Bundle& bundle;
  const std::string& directory;       // the checkpoint's
  const Tokenizer& tokenizer;         // the checkpoint's
  std::span<const int32_t> eos_ids;   // the checkpoint's
  const ChatTemplate* chat_template;  // the one in use, nullptr for none
};

// Fills the checks of the bundle and adds to `findings`. The bundle's side is
// what LiteRT-LM makes of it: prompts begin with the start token, always, and
// templates see an empty bos_token (session_utils.cc, prompt_template.cc;
// measured with litert-lm-api 0.18.1). Without a template in use, the
// checkpoint's own is taken. Throws Error for a part that is damaged.
void CheckBundle(const BundleCheckInput& input, Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_BUNDLE_CHECK_H_
