// SPDX-License-Identifier: Apache-2.0
// Phi-1, 1.5 and 2.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

// LayerNorm, attention and MLP both of its output, an MLP without gate, biases
// everywhere.
void SetPhiBlock(const ConfigFields&, ModelConfig* config) {
  config->layer_norm = true;
  config->parallel_block = true;
  config->mlp_norm = false;
  config->gated_mlp = false;
  config->mlp_bias = true;
  config->head_bias = true;
}

std::vector<PartName> PhiNames(const ModelConfig&) {
  return {{Part::kEmbedding, "embed_tokens"},
          {Part::kFinalNorm, "final_layernorm"},
          {Part::kHead, "lm_head"},
          {Part::kInputNorm, "layers.{}.input_layernorm"},
          {Part::kQ, "layers.{}.self_attn.q_proj"},
          {Part::kK, "layers.{}.self_attn.k_proj"},
          {Part::kV, "layers.{}.self_attn.v_proj"},
          {Part::kO, "layers.{}.self_attn.dense"},
          {Part::kUp, "layers.{}.mlp.fc1"},
          {Part::kDown, "layers.{}.mlp.fc2"}};
}

}  // namespace

Family Phi() {
  return {.model_type = "phi",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kAll,
          .activation = "gelu_new",
          .partial_rotary_factor = 0.5,
          .norm_eps_key = "layer_norm_eps",
          .handles = {"partial_rotary_factor"},
          .reads = {"qk_layernorm"},
          .set_block = SetPhiBlock,
          .names = PhiNames};
}

}  // namespace verify_tflite
