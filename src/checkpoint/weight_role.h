// SPDX-License-Identifier: Apache-2.0
// What a tensor of a decoder is for, whatever a family calls it.
#ifndef VERIFY_TFLITE_CHECKPOINT_WEIGHT_ROLE_H_
#define VERIFY_TFLITE_CHECKPOINT_WEIGHT_ROLE_H_

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace verify_tflite {

enum class Part {
  kEmbedding,
  kHead,
  kFinalNorm,
  kInputNorm,      // before attention
  kAttentionNorm,  // of attention's output (Gemma 2 and 3, OLMo 2)
  kMlpNorm,        // before the MLP
  kOutputNorm,     // of the MLP's output (Gemma 2 and 3, OLMo 2)
  kQNorm,
  kKNorm,
  kAttentionSubNorm,  // of what o reads (BitNet)
  kMlpSubNorm,        // of what down reads
  // Numbers of xIELU, each a tensor by itself.
  kAlphaP,
  kAlphaN,
  kXieluBeta,
  kXieluEps,
  kQ,
  kK,
  kV,
  kQkv,  // one product for all three
  kO,
  kGate,
  kUp,  // also the first of an MLP without gate
  kGateUp,
  kDown,
  kPerLayerEmbedding,        // of all layers
  kPerLayerModelProjection,  // of the embedding, for all layers
  kPerLayerModelNorm,        // of each layer's part of it
  kPerLayerGate,             // of what leaves the MLP
  kPerLayerProjection,       // back to the residual stream
  kPerLayerNorm,             // of its output
  kLayerScalar,              // of what leaves a layer
  kVNorm,                    // of values; checkpoints have none
  // Of AltUp, which has several residual streams, and Laurel (Gemma 3n).
  kStreamProjection,  // of the embedding, for a stream; its layer is the
                      // stream's number less one, as that of the next
  kStreamOutput,      // of a stream behind the last layer
  kStreamRouter,            // of one stream, for prediction and correction alike
  kStreamRouterNorm,
  kPrediction,  // coefficients of each stream in each other
  kCorrection,  // how much each stream takes of what the layer changed
  kStreamScale,  // of what the per-layer gate reads
  kLaurelLeft,
  kLaurelRight,
  kLaurelNorm,
  kRouter,        // of a mixture of experts: a score of each
  kRouterBias,    // added to scores for the choice alone
  kExpertGate,    // of one expert, as the others with WeightRole::expert
  kExpertUp,
  kExpertGateUp,  // of expert -1: of all experts, one after the other
  kExpertDown,    // the same
  kSharedGate,    // of the expert that every row takes
  kSharedUp,
  kSharedGateUp,
  kSharedDown,
  kSharedScale,   // what its output is scaled by, before the sigmoid
  kConvInput,   // of a short convolution: gates and what it is of
  kConvTaps,    // one number for each channel and position
  kConvOutput,  // back to the residual stream
};
bool IsNorm(Part part);
// Whether it makes queries, keys or values.
bool IsAttentionInput(Part part);
// Whether its number is that of a stream, not of a layer.
bool IsOfStream(Part part);
// Whether it is a vector that values are multiplied with, but no norm's.
bool IsScale(Part part);
// Whether its rows are looked up by token.
bool IsTable(Part part);
// Whether it is one of xIELU's numbers. Files hold what follows from them.
bool IsParameter(Part part);
// Whether its tensor has the module's own name, without ".weight".
bool IsBare(Part part);
std::string_view NameOf(Part part);  // "q", "gate", "norm before the MLP", …

struct WeightRole {
  Part part = Part::kEmbedding;
  int32_t layer = -1;  // -1: of no layer
  bool bias = false;
  int32_t expert = -1;  // -1: of none
  auto operator<=>(const WeightRole&) const = default;
};
std::string Describe(const WeightRole& role);  // "layer 2 gate", "LM head"

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_WEIGHT_ROLE_H_
