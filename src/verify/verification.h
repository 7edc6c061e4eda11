// The result of a verification: plain data, filled by verify/, shown by
// report/.
#ifndef VERIFY_TFLITE_VERIFY_VERIFICATION_H_
#define VERIFY_TFLITE_VERIFY_VERIFICATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "candidate/model.h"
#include "checkpoint/model_config.h"
#include "verify/metrics.h"

namespace verify_tflite {

// What the user asked for.
struct Settings {
  int64_t max_new_tokens = 30;
  int64_t match_tokens = 10;      // first tokens that must agree
  double tolerance = 0.01;        // of |logit difference|, float32 files only
  std::optional<double> max_kld;  // nats; default by recipe
  int num_threads = 1;
};

// What the result was held against.
struct Limits {
  int64_t match_tokens = 0;
  double max_kld = 0;               // mean over a prompt's positions, nats
  std::optional<double> tolerance;  // none: not in force for this recipe
};

// A prompt as it is fed.
struct Prompt {
  std::string text;      // as the user gave it
  std::string rendered;  // with the chat template applied; else the same
  std::vector<int32_t> ids;
};

// One generated position on the reference's own greedy path, both models given
// the same tokens before it.
struct Position {
  LogitDifference logits;
  // The tokens differ, but by no more than the noise of this conversion.
  bool tie = false;
  // Text of the two tokens, only where they differ.
  std::string reference_text;
  std::string candidate_text;
};

enum class Outcome { kPass, kFail, kNotChecked };

// One question with its answer.
struct Check {
  std::string name;  // "tokens", "kld", "logits", "prefill_logits"
  Outcome outcome = Outcome::kNotChecked;
  std::optional<double> value = std::nullopt;
  std::optional<double> limit = std::nullopt;
  std::string detail = "";  // one sentence; why, where it was not checked
};

struct PromptResult {
  Prompt prompt;
  // Greedy tokens, EOS included when it ended the text. The candidate's are
  // free-running: from its own choices, as on the phone.
  std::vector<int32_t> reference_ids;
  std::vector<int32_t> candidate_ids;
  std::string reference_text;  // special tokens left out
  std::string candidate_text;
  // Text of the tokens before the first difference (all, if there is none).
  std::string shared_text;
  std::vector<Position> positions;  // one per reference_ids entry
  // Logits of the last prompt token from a prefill signature (as `candidate`)
  // and from decode (as `reference`); none where no signature yields them.
  std::optional<LogitDifference> prefill_logits;
  std::vector<Check> checks;
  bool passed = false;
};

// Wall seconds.
struct Timing {
  double open = 0;       // files, tokenizer, signatures
  double compile = 0;    // the candidate's signatures
  double prefill = 0;    // the candidate
  double decode = 0;     // the candidate, drafts included
  double reference = 0;  // PyTorch passes, comparing included
  double total = 0;
  int64_t prefill_tokens = 0;
  int64_t decode_tokens = 0;
  int64_t reference_passes = 0;
  int64_t reference_tokens = 0;
};

// A difference that no figure of a prompt shows.
struct Finding {
  // "stop-token-differs", "start-token-differs", "bos-missing",
  // "template-differs", "tokenizer-differs"
  std::string id;
  std::string sentence;  // what it means for who runs the file
  std::string evidence;  // what was found on both sides; may have lines
};

struct Verification {
  std::string tool_version;
  std::string tflite_path;
  std::string checkpoint_path;
  std::string chat_template;  // "none", "checkpoint" or the file's path
  ModelInfo model;
  ModelConfig config;
  Settings settings;
  Limits limits;
  std::vector<int32_t> eos_ids;
  // What the file is packed with, compared with the checkpoint's:
  // "stop_tokens", "start_token", "chat_template", "tokenizer". Empty for a
  // .tflite alone.
  std::vector<Check> bundle_checks;
  std::vector<Finding> findings;
  std::vector<PromptResult> prompts;
  Timing timing;
  int64_t peak_memory_bytes = 0;  // resident set of the whole run
};

// The first index at which the two greedy texts part; none if they are equal.
std::optional<size_t> FirstDifference(const PromptResult& result);

int64_t NumFailed(const Verification& verification);

// There were prompts, all passed, and there are no findings.
bool Passed(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_VERIFICATION_H_
