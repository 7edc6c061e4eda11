// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

// FalconAttention and FalconDecoderLayer. Combinations that they can be made
// with but fail in their forward pass are errors.
void SetFalconBlock(const ConfigFields& fields, ModelConfig* result) {
  const bool newer = fields.Flag("new_decoder_architecture", false);
  const bool parallel = fields.Flag("parallel_attn", true);
  const int64_t norms =
      fields.Size("num_ln_in_parallel_attn", newer ? 2 : 1, /*max=*/2);
  if (newer && !parallel) {
    throw Error(
        "{}: \"new_decoder_architecture\" without \"parallel_attn\" is not "
        "supported",
        fields.origin());
  }
  if (!newer && parallel && norms == 2) {
    throw Error(
        "{}: \"num_ln_in_parallel_attn\" 2 without "
        "\"new_decoder_architecture\" is not supported",
        fields.origin());
  }
  if (!newer && fields.Flag("multi_query", true)) {
    result->num_kv_heads = 1;
  } else if (!newer && result->num_kv_heads != result->num_heads) {
    throw Error(
        "{}: \"num_kv_heads\" is {}, expected num_attention_heads {} without "
        "\"multi_query\" and \"new_decoder_architecture\"",
        fields.origin(), result->num_kv_heads, result->num_heads);
  }
  const bool bias = fields.Flag("bias", false);
  result->qkv_bias = bias;
  result->o_bias = bias;
  result->mlp_bias = bias;
  result->layer_norm = true;
  result->parallel_block = parallel;
  result->mlp_norm = !parallel || (newer && norms == 2);
  result->gated_mlp = false;
  result->alibi = fields.Flag("alibi", false);
}

std::vector<PartName> FalconNames(const ModelConfig& config) {
  const bool two_norms = config.parallel_block && config.mlp_norm;
  return {
      {Part::kEmbedding, "word_embeddings"},
      {Part::kFinalNorm, "ln_f"},
      {Part::kHead, "lm_head"},
      {Part::kInputNorm, two_norms ? "h.{}.ln_attn" : "h.{}.input_layernorm"},
      {Part::kMlpNorm,
       two_norms ? "h.{}.ln_mlp" : "h.{}.post_attention_layernorm"},
      {Part::kQkv, "h.{}.self_attention.query_key_value"},
      {Part::kO, "h.{}.self_attention.dense"},
      {Part::kUp, "h.{}.mlp.dense_h_to_4h"},
      {Part::kDown, "h.{}.mlp.dense_4h_to_h"}};
}

}  // namespace

Family Falcon() {
  return {.model_type = "falcon",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 2048,
          .tie_word_embeddings = true,
          .activation_key = "activation",
          .activation = "gelu",
          .norm_eps_key = "layer_norm_epsilon",
          .kv_heads_key = "num_kv_heads",
          .intermediate_key = "ffn_hidden_size",
          .intermediate_factor = 4,
          .handles = {"alibi", "parallel_attn"},
          .set_block = SetFalconBlock,
          .names = FalconNames,
          .prefixes = {{"transformer.", ""}},
          .grouped_qkv = true};
}

}  // namespace verify_tflite
