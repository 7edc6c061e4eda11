#include "verify/preconditions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/error.h"
#include "base/utf8.h"
#include "tflite/file.h"

namespace verify_tflite {

std::string DescribePrompt(const Prompt& prompt) {
  const std::string_view text = prompt.text;
  constexpr size_t kBytes = 60;
  if (text.size() <= kBytes) return Quote(text);
  return Quote(ReplaceInvalidUtf8(text.substr(0, kBytes))) + "…";
}

void CheckSameShape(const Model& model, const ModelConfig& config,
                    const std::string& checkpoint_path) {
  const ModelInfo& info = model.info();
  const auto check = [&](std::string_view what, int64_t found,
                         int64_t expected) {
    if (found == expected) return;
    throw Error(
        "{} has {} {}, the checkpoint {} has {}: it is not a conversion of "
        "this "
        "checkpoint. Pass the checkpoint it was converted from",
        model.path(), found, what, checkpoint_path, expected);
  };
  const int64_t layers = NumKvLayers(config);
  check("layers with KV caches", info.num_layers, layers);
  check("layers with short convolutions", info.num_states,
        std::ranges::count(config.layers, true, &LayerConfig::conv));
  check("vocabulary entries", info.vocab_size, config.vocab_size);
  if (info.kv_values == 0) return;
  int64_t values = 0;
  for (const LayerConfig& layer : config.layers) {
    if (layer.conv) continue;
    if (layer.kv_source < 0) values += 2 * layer.num_kv_heads * layer.head_dim;
  }
  // The mean, where layers differ.
  check("KV cache values per position and layer", info.kv_values,
        values / layers);
}

void CheckPromptsFit(const Model& model, std::span<const Prompt> prompts,
                     const Settings& settings) {
  const ModelInfo& info = model.info();
  for (const Prompt& prompt : prompts) {
    if (prompt.ids.empty()) {
      throw Error(
          "the prompt {} gives no tokens: there is nothing to feed. Pass a "
          "prompt with text",
          DescribePrompt(prompt));
    }
    for (const int32_t id : prompt.ids) {
      if (id < 0 || id >= info.vocab_size) {
        throw Error(
            "the tokenizer gives id {} for the prompt {}, but {} has {} "
            "vocabulary entries: tokenizer and model do not belong together",
            id, DescribePrompt(prompt), model.path(), info.vocab_size);
      }
    }
    // The last new token is never fed.
    const auto size = static_cast<int64_t>(prompt.ids.size());
    if (size + settings.max_new_tokens - 1 > info.kv_length) {
      throw Error(
          "the prompt {} has {} tokens; with --max_new_tokens={} it needs a "
          "KV cache of {} positions, {} has {}. Shorten the prompt, lower "
          "--max_new_tokens, or convert with a longer KV cache",
          DescribePrompt(prompt), size, settings.max_new_tokens,
          size + settings.max_new_tokens - 1, model.path(), info.kv_length);
    }
  }
}

std::vector<std::string> NotesOnPads(const ModelInfo& model,
                                     std::span<const Prompt> prompts) {
  std::vector<std::string> notes;
  if (!model.pad_token) return notes;
  for (const Prompt& prompt : prompts) {
    if (std::ranges::count(prompt.ids, *model.pad_token) == 0) continue;
    notes.push_back(fmt::format(
        "The prompt {} has token {}, which prefill takes for a pad wherever it "
        "stands: the model cannot make of this prompt what PyTorch does. "
        "Convert with a pad token that no text has",
        DescribePrompt(prompt), *model.pad_token));
  }
  return notes;
}

void CheckReferenceFinite(const VerifyInput& input,
                          std::span<const float> logits,
                          const std::string& text) {
  if (std::all_of(logits.begin(), logits.end(),
                  [](float x) { return std::isfinite(x); })) {
    return;
  }
  throw Error(
      "{}: the PyTorch reference yields NaN or infinite logits for {}: the "
      "checkpoint is damaged; nothing was verified",
      input.checkpoint.directory(), text);
}

void CheckScales(const Model& model) {
  for (const tflite::Part* part : model.container()->model_parts()) {
    const tflite::File& file = part->file();
    file.CheckConstants();
    const tflite::ZeroScales zeros = tflite::FindZeroScales(file);
    if (zeros.constants == 0) continue;
    throw Error(
        "{}: {}. No runtime loads that, so nothing could be verified "
        "(verify_tflite explain zero-scale)",
        file.what, Describe(zeros));
  }
}

}  // namespace verify_tflite
