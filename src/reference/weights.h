// SPDX-License-Identifier: Apache-2.0
// The weights of a decoder, found by the names of its family.
#ifndef VERIFY_TFLITE_REFERENCE_WEIGHTS_H_
#define VERIFY_TFLITE_REFERENCE_WEIGHTS_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "reference/alternative.h"
#include "reference/file_weight.h"
#include "reference/linear.h"
#include "reference/stage.h"

namespace verify_tflite {

// Scale and, of LayerNorm, bias.
struct NormWeights {
  const TensorView* weight = nullptr;
  const TensorView* bias = nullptr;
  bool unscaled = false;  // a norm without weight
  bool exists() const { return weight != nullptr || unscaled; }
};

// Of Activation::kXielu, as they are applied.
struct XieluNumbers {
  float alpha_p = 0;
  float alpha_n = 0;
  float beta = 0;
  float eps = 0;
};

// Of one expert.
struct ExpertWeights {
  Linear gate, up, down;
};

struct LayerWeights {
  NormWeights input_norm;  // none: attention takes the residual stream
  Linear q, k, v, o;   // no k and v with kv_source, no v with keys_are_values
  Linear qkv;          // with grouped_qkv, in place of q, k and v
  NormWeights q_norm;  // with qk_norm
  NormWeights k_norm;
  NormWeights attention_sub_norm, mlp_sub_norm;  // with sub_norms
  NormWeights attention_norm;                    // with sandwich_norms
  NormWeights mlp_norm;     // none: takes what input_norm gives, or it
  Linear gate, up, down;    // gate with gated_mlp
  NormWeights output_norm;  // with sandwich_norms
  XieluNumbers xielu;       // with kXielu
  Linear per_layer_gate, per_layer_projection;  // with per_layer_size
  NormWeights per_layer_norm;
  const TensorView* scalar = nullptr;            // with layer_scalar
  Linear stream_router, prediction, correction;  // with num_streams
  NormWeights stream_router_norm;
  const TensorView* stream_scale = nullptr;  // with stream_scale
  Linear laurel_left, laurel_right;          // with laurel_rank
  NormWeights laurel_norm;
  // With LayerConfig::experts; gate, up and down are the shared one's then.
  Linear router;
  std::vector<float> choice_bias;  // with ExpertsConfig::choice_bias
  std::vector<ExpertWeights> experts;
  Linear shared_scale;
  // With LayerConfig::conv, in place of q, k, v and o.
  Linear conv_input, conv_output;
  const TensorView* conv_taps = nullptr;  // [hidden_size, 1, conv_taps]
  const TensorView* conv_bias = nullptr;
  bool conv_quantised_input = false;
};

struct Weights {
  const TensorView* embedding = nullptr;
  const TensorView* per_layer_embedding = nullptr;  // with per_layer_size
  Linear per_layer_model_projection;
  NormWeights per_layer_model_norm;
  // With num_streams, of each but the first.
  std::vector<Linear> stream_projections, stream_outputs;
  std::vector<LayerWeights> layers;
  NormWeights norm;
  Linear head;
  std::deque<TensorView> parts;  // of fused projections; what no file has
};

// Finds all weights that the config implies and checks their shapes; reads
// none. Those of `others`, which may be null, stand in for the checkpoint's
// where they have its shape. Both must outlive the result. Throws Error.
Weights FindWeights(const Checkpoint& checkpoint, const FileWeights* others,
                    bool quantise_inputs);

// Makes `config` and `weights`, the checkpoint's own, those of `alternative`.
void Apply(const Alternative& alternative, ModelConfig& config,
           Weights& weights);

// Returns the product that gives `stage`, or whose rotated input it is; null
// for a stage that is neither, or of a layer or an expert that is not there.
const Linear* LinearOf(const Weights& weights, Stage stage, int64_t layer,
                       int64_t expert = -1);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_WEIGHTS_H_
