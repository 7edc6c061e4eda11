// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/weight_role.h"

#include <fmt/format.h>

namespace verify_tflite {

std::string_view NameOf(Part part) {
  switch (part) {
    case Part::kEmbedding:
      return "embedding";
    case Part::kHead:
      return "LM head";
    case Part::kFinalNorm:
      return "final norm";
    case Part::kInputNorm:
      return "norm before attention";
    case Part::kAttentionNorm:
      return "norm behind attention";
    case Part::kMlpNorm:
      return "norm before the MLP";
    case Part::kOutputNorm:
      return "norm behind the MLP";
    case Part::kQNorm:
      return "norm of q";
    case Part::kKNorm:
      return "norm of k";
    case Part::kAttentionSubNorm:
      return "norm before o";
    case Part::kMlpSubNorm:
      return "norm before down";
    case Part::kAlphaP:
      return "alpha_p of the activation";
    case Part::kAlphaN:
      return "alpha_n of the activation";
    case Part::kXieluBeta:
      return "beta of the activation";
    case Part::kXieluEps:
      return "epsilon of the activation";
    case Part::kQ:
      return "q";
    case Part::kK:
      return "k";
    case Part::kV:
      return "v";
    case Part::kQkv:
      return "q, k and v";
    case Part::kO:
      return "o";
    case Part::kGate:
      return "gate";
    case Part::kUp:
      return "up";
    case Part::kGateUp:
      return "gate and up";
    case Part::kDown:
      return "down";
    case Part::kPerLayerEmbedding:
      return "per-layer embedding";
    case Part::kPerLayerModelProjection:
      return "per-layer projection of the embedding";
    case Part::kPerLayerModelNorm:
      return "norm of the per-layer projection";
    case Part::kPerLayerGate:
      return "per-layer gate";
    case Part::kPerLayerProjection:
      return "per-layer projection";
    case Part::kPerLayerNorm:
      return "norm behind the per-layer projection";
    case Part::kLayerScalar:
      return "scalar";
    case Part::kVNorm:
      return "norm of v";
    case Part::kStreamProjection:
      return "projection of the embedding";
    case Part::kStreamOutput:
      return "last projection";
    case Part::kStreamRouter:
      return "router";
    case Part::kStreamRouterNorm:
      return "norm before the router";
    case Part::kPrediction:
      return "prediction coefficients";
    case Part::kCorrection:
      return "correction coefficients";
    case Part::kStreamScale:
      return "scale before the per-layer gate";
    case Part::kLaurelLeft:
      return "Laurel's left matrix";
    case Part::kLaurelRight:
      return "Laurel's right matrix";
    case Part::kLaurelNorm:
      return "norm behind Laurel";
    case Part::kRouter:
      return "router";
    case Part::kRouterBias:
      return "bias of the router's choice";
    case Part::kExpertGate:
      return "gate";
    case Part::kExpertUp:
      return "up";
    case Part::kExpertGateUp:
      return "gate and up";
    case Part::kExpertDown:
      return "down";
    case Part::kSharedGate:
      return "gate of the shared expert";
    case Part::kSharedUp:
      return "up of the shared expert";
    case Part::kSharedGateUp:
      return "gate and up of the shared expert";
    case Part::kSharedDown:
      return "down of the shared expert";
    case Part::kSharedScale:
      return "scale of the shared expert";
    case Part::kConvInput:
      return "input of the convolution";
    case Part::kConvTaps:
      return "taps of the convolution";
    case Part::kConvOutput:
      return "output of the convolution";
  }
  return "";
}

bool IsNorm(Part part) {
  switch (part) {
    case Part::kFinalNorm:
    case Part::kInputNorm:
    case Part::kAttentionNorm:
    case Part::kMlpNorm:
    case Part::kOutputNorm:
    case Part::kQNorm:
    case Part::kKNorm:
    case Part::kAttentionSubNorm:
    case Part::kMlpSubNorm:
    case Part::kPerLayerModelNorm:
    case Part::kPerLayerNorm:
    case Part::kVNorm:
    case Part::kStreamRouterNorm:
    case Part::kLaurelNorm:
      return true;
    default:
      return false;
  }
}

bool IsAttentionInput(Part part) {
  return part == Part::kQ || part == Part::kK || part == Part::kV ||
         part == Part::kQkv;
}

bool IsOfStream(Part part) {
  return part == Part::kStreamProjection || part == Part::kStreamOutput;
}

bool IsScale(Part part) {
  return part == Part::kLayerScalar || part == Part::kStreamScale;
}

bool IsTable(Part part) {
  return part == Part::kEmbedding || part == Part::kPerLayerEmbedding;
}

bool IsParameter(Part part) {
  switch (part) {
    case Part::kAlphaP:
    case Part::kAlphaN:
    case Part::kXieluBeta:
    case Part::kXieluEps:
      return true;
    default:
      return false;
  }
}

bool IsBare(Part part) {
  return IsScale(part) || part == Part::kRouterBias || IsParameter(part);
}

std::string Describe(const WeightRole& role) {
  std::string text;
  if (role.bias) text += "bias of ";
  text += NameOf(role.part);
  if (role.expert >= 0) text += fmt::format(" of expert {}", role.expert);
  if (role.layer < 0) return text;
  text += IsOfStream(role.part) ? fmt::format(" for stream {}", role.layer + 1)
                                : fmt::format(" of layer {}", role.layer);
  return text;
}

}  // namespace verify_tflite
