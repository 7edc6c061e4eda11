// SPDX-License-Identifier: Apache-2.0
// Gemma, Gemma 2, and Gemma 3 by itself or inside a multimodal model.
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

void SetGemmaBlock(const ConfigFields&, ModelConfig* config) {
  config->embedding_scale = std::sqrt(static_cast<double>(config->hidden_size));
  config->norm_adds_one = true;
}

void SetSandwichBlock(const ConfigFields& fields, ModelConfig* config) {
  SetGemmaBlock(fields, config);
  config->sandwich_norms = true;
}

constexpr std::string_view kGemma3Text = "gemma3_text";

ModelConfig ParseGemma3Multimodal(const ConfigFields& fields,
                                  const Family& outer) {
  ModelConfig result = ParseTextModel(fields, outer);
  // Gemma3ForConditionalGeneration has no such cap.
  constexpr std::string_view kCap = "final_logit_softcapping";
  const ConfigFields inner = TextConfigOf(fields, outer);
  if (const json* cap = inner.Find(kCap)) {
    throw inner.Unexpected(kCap, *cap, "null in a multimodal model");
  }
  return result;
}

}  // namespace

Family Gemma() {
  return {.model_type = "gemma",
          .max_position_embeddings = 8192,
          .num_kv_heads = 16,
          .head_dim = 256,
          .tie_word_embeddings = true,
          .attention_bias = Biases::kFromConfig,
          .activation = "gelu_pytorch_tanh",
          .gelu_is_tanh = true,
          .handles = {"attention_bias"},
          .reads = {"use_bidirectional_attention"},
          .set_block = SetGemmaBlock};
}

Family Gemma2() {
  return {
      .model_type = "gemma2",
      .max_position_embeddings = 8192,
      .num_kv_heads = 4,
      .head_dim = 256,
      .tie_word_embeddings = true,
      .attention_bias = Biases::kFromConfig,
      .windows = Windows::kPattern,
      .sliding_window = 4096,
      .window_pattern = 2,
      .activation_key = "hidden_activation",
      .activation = "gelu_pytorch_tanh",
      .query_pre_attn_scalar = 256,
      .attention_softcap = 50,
      .logit_softcap = 30,
      .handles = {"attention_bias", "sliding_window", "query_pre_attn_scalar",
                  "attn_logit_softcapping", "final_logit_softcapping"},
      .reads = {"use_bidirectional_attention"},
      .set_block = SetSandwichBlock,
      .names = SandwichNames};
}

// Gemma 2 without norms of what attention and MLP give.
Family VaultGemma() {
  Family family = Gemma2();
  family.model_type = "vaultgemma";
  family.reads = {};
  family.set_block = SetGemmaBlock;
  family.names = [](const ModelConfig& config) {
    return Renamed(LlamaNames(config),
                   {{Part::kMlpNorm, "layers.{}.pre_feedforward_layernorm"}});
  };
  return family;
}

Family Gemma3Text() {
  return {.model_type = kGemma3Text,
          .rope_theta = 1e6,
          .local_rope_theta = 1e4,
          .max_position_embeddings = 131072,
          .vocab_size = 262208,
          .num_heads = 8,
          .num_kv_heads = 4,
          .head_dim = 256,
          .tie_word_embeddings = true,
          .attention_bias = Biases::kFromConfig,
          .windows = Windows::kPattern,
          .sliding_window = 4096,
          .window_pattern = 6,
          .activation_key = "hidden_activation",
          .activation = "gelu_pytorch_tanh",
          .query_pre_attn_scalar = 256,
          // Its attention does not look at attn_logit_softcapping.
          .handles = {"attention_bias", "sliding_window",
                      "query_pre_attn_scalar", "final_logit_softcapping",
                      "sliding_window_pattern", "rope_local_base_freq"},
          .reads = {"use_bidirectional_attention"},
          .set_block =
              [](const ConfigFields& fields, ModelConfig* config) {
                SetSandwichBlock(fields, config);
                config->qk_norm = true;
              },
          .names = SandwichNames};
}

Family Gemma3() {
  return {.model_type = "gemma3",
          .tie_word_embeddings = true,
          .parse = ParseGemma3Multimodal,
          .text = kGemma3Text,
          .text_is_fixed = true,
          .prefixes = {{"model.language_model.", ""},
                       {"language_model.model.", "language_model."}}};
}

}  // namespace verify_tflite
