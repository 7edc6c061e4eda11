// SPDX-License-Identifier: Apache-2.0
// EXAONE 3 and 3.5, which Llama's class computes: keys of config.json and
// tensors have names of their own.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

std::vector<PartName> ExaoneNames(const ModelConfig&) {
  return {{Part::kEmbedding, "wte"},
          {Part::kFinalNorm, "ln_f"},
          {Part::kHead, "lm_head"},
          {Part::kInputNorm, "h.{}.ln_1"},
          {Part::kMlpNorm, "h.{}.ln_2"},
          {Part::kQ, "h.{}.attn.attention.q_proj"},
          {Part::kK, "h.{}.attn.attention.k_proj"},
          {Part::kV, "h.{}.attn.attention.v_proj"},
          {Part::kO, "h.{}.attn.attention.out_proj"},
          {Part::kGate, "h.{}.mlp.c_fc_0"},
          {Part::kUp, "h.{}.mlp.c_fc_1"},
          {Part::kDown, "h.{}.mlp.c_proj"}};
}

}  // namespace

Family Exaone() {
  return {.model_type = "exaone",
          .rms_norm_eps = 1e-5,
          .rope_theta = 500000,
          .max_position_embeddings = 4096,
          .num_kv_heads = 8,
          .attention_bias = Biases::kFromConfig,
          .handles = {"attention_bias", "mlp_bias"},
          .aliases = {{"num_layers", "num_hidden_layers"},
                      {"layer_norm_epsilon", "rms_norm_eps"},
                      {"activation_function", "hidden_act"}},
          .parse = ParseRenamed,
          .names = ExaoneNames,
          .prefixes = {{"transformer.", ""}}};
}

}  // namespace verify_tflite
