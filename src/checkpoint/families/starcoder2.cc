// SPDX-License-Identifier: Apache-2.0
// StarCoder2: LayerNorm, an MLP without gate, biases everywhere.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetStarcoder2Block(const ConfigFields& fields, ModelConfig* config) {
  const bool bias = fields.Flag("use_bias", true);
  config->qkv_bias = bias;
  config->o_bias = bias;
  config->mlp_bias = bias;
  config->layer_norm = true;
  config->gated_mlp = false;
}

std::vector<PartName> Starcoder2Names(const ModelConfig& config) {
  return Renamed(
      Without(LlamaNames(config), {Part::kGate, Part::kQNorm, Part::kKNorm}),
      {{Part::kUp, "layers.{}.mlp.c_fc"},
       {Part::kDown, "layers.{}.mlp.c_proj"}});
}

}  // namespace

Family Starcoder2() {
  return {.model_type = "starcoder2",
          .rms_norm_eps = 1e-5,
          .max_position_embeddings = 4096,
          .num_kv_heads = 2,
          .tie_word_embeddings = true,
          .windows = Windows::kAll,
          .activation = "gelu_pytorch_tanh",
          .norm_eps_key = "norm_epsilon",
          .handles = {"sliding_window"},
          .set_block = SetStarcoder2Block,
          .names = Starcoder2Names};
}

}  // namespace verify_tflite
