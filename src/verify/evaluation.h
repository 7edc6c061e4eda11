// Runs a teacher-forced evaluation over a fixed text: both models are given it
// and predict each next token.
#ifndef VERIFY_TFLITE_VERIFY_EVALUATION_H_
#define VERIFY_TFLITE_VERIFY_EVALUATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "candidate/session.h"
#include "reference/reference.h"
#include "result/verification.h"
#include "verify/eval_text.h"
#include "verify/verify_input.h"

namespace verify_tflite {

// The text as token ids.
struct EvalPlan {
  std::string source;
  // Each is run from empty KV caches; its first token is BOS where the
  // tokenizer adds one.
  std::vector<std::vector<int32_t>> sequences;
  // Names, with begin and end by the position predicted (over all sequences,
  // one less than its tokens each).
  std::vector<Passage> passages;
};

// Takes `tokens` of the text: of every part a share by its length, one after
// the other, in as few sequences of at most `max_sequence` tokens as hold them.
// Returns no sequences where `tokens` or the text leaves nothing to predict.
// Throws Error for an id outside the vocabulary of `vocab_size`.
EvalPlan PlanEvaluation(const EvalText& text, const Tokenizer& tokenizer,
                        int64_t tokens, int64_t max_sequence,
                        int64_t vocab_size);

// Returns the length of the longest sequence that both models can be given.
int64_t MaxSequence(const ModelInfo& model, const ModelConfig& config);

// Runs both models. The candidate's logits are prefill's where every prefill
// signature yields a row a token, else decode's, token by token. The reference
// runs in as few passes as keep the logits within 256 MB. `session` needs the
// signatures of EvaluationPlans. Throws Error as RunVerification does.
// `file_reference`, which may be null, is PyTorch with the file's weights; with
// it `cost` is filled, too.
Evaluation RunEvaluation(const VerifyInput& input, const EvalPlan& plan,
                         Session& session, Reference& reference,
                         Reference* file_reference, Timing& timing,
                         std::optional<WeightsCost>& cost);

// Returns what Session::Create must compile for it.
std::vector<PrefillPlan> EvaluationPlans(const ModelInfo& model,
                                         const EvalPlan& plan);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_EVALUATION_H_
