// SPDX-License-Identifier: Apache-2.0
// nanochat: norms that do not scale, one more of the embeddings, norms of
// queries and keys behind RoPE, which turns the other way round.
#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

void SetNanoChatBlock(const ConfigFields&, ModelConfig* config) {
  config->norm_weight = false;
  config->embedding_norm = true;
  config->qk_norm = true;
  config->qk_norm_after_rope = true;
  config->reversed_rope = true;
  config->gated_mlp = false;
}

std::vector<PartName> NanoChatNames(const ModelConfig& config) {
  return Renamed(
      Without(LlamaNames(config),
              {Part::kInputNorm, Part::kMlpNorm, Part::kFinalNorm, Part::kQNorm,
               Part::kKNorm, Part::kGate}),
      {{Part::kUp, "layers.{}.mlp.fc1"}, {Part::kDown, "layers.{}.mlp.fc2"}});
}

}  // namespace

Family NanoChat() {
  return {.model_type = "nanochat",
          .max_position_embeddings = 2048,
          .attention_bias = Biases::kFromConfig,
          .activation = "relu2",
          .logit_softcap = 15,
          .handles = {"attention_bias", "final_logit_softcapping"},
          .set_block = SetNanoChatBlock,
          .names = NanoChatNames};
}

}  // namespace verify_tflite
