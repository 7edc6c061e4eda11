// Speculative verification: the candidate drafts greedily, the reference scores
// the draft in one teacher-forced pass, and where its own choice differs the
// candidate drafts again from there. The result is PyTorch's exact greedy text,
// and at each of its positions both models' logits given the same tokens, for
// (differences + 1) reference passes instead of one a token. The idea is that
// of speculative decoding with a greedy target (Leviathan et al., 2023,
// arXiv:2211.17192), used to verify instead of to generate.
#ifndef VERIFY_TFLITE_VERIFY_VERIFIER_H_
#define VERIFY_TFLITE_VERIFY_VERIFIER_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "candidate/model.h"
#include "result/verification.h"
#include "verify/eval_text.h"
#include "verify/verify_input.h"

namespace verify_tflite {

// Throws Error where `model` cannot be a conversion of `config` (layers,
// vocabulary, KV heads), so that nothing was compared.
void CheckSameShape(const Model& model, const ModelConfig& config,
                    const std::string& checkpoint_path);

// Throws Error when a prompt is empty, holds an id outside the vocabulary, or
// does not fit the candidate's KV cache together with the tokens to generate.
void CheckPromptsFit(const Model& model, std::span<const Prompt> prompts,
                     const Settings& settings);

// Runs both models on all prompts and on Settings::eval_tokens of `text`, and
// the candidate against itself (verify/self_check.h). Then it looks for the
// cause of what is wrong and judges. It fills v.prompts, v.evaluation, the
// checks of all groups but the bundle's, v.kv_profile, v.hypotheses and what
// Judge fills, and adds to v.findings and v.timing. v.model, v.limits and the
// bundle's checks must be there before. Both checks above are done first.
// Throws Error when one of the models cannot be run, or when the reference
// yields non-finite logits.
void RunVerification(const VerifyInput& input, std::span<const Prompt> prompts,
                     const EvalText& text, Verification& v);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_VERIFIER_H_
