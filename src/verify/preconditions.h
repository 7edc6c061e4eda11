// What must hold before, and while, two models are compared.
#ifndef VERIFY_TFLITE_VERIFY_PRECONDITIONS_H_
#define VERIFY_TFLITE_VERIFY_PRECONDITIONS_H_

#include <span>
#include <string>
#include <vector>

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

// Returns a sentence on each prompt with a token that the model's graph takes
// for a pad.
std::vector<std::string> NotesOnPads(const ModelInfo& model,
                                     std::span<const Prompt> prompts);

// Throws Error where a quantised tensor has a scale of 0: the runtime refuses
// such files with a sentence that names nothing.
void CheckScales(const Model& model);

// Throws Error, which names `text`, where the reference's `logits` are not
// finite. Then the checkpoint is at fault and nothing can be said about the
// model.
void CheckReferenceFinite(const VerifyInput& input,
                          std::span<const float> logits,
                          const std::string& text);

// Returns the prompt's first bytes, quoted: enough to know it by.
std::string DescribePrompt(const Prompt& prompt);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_PRECONDITIONS_H_
