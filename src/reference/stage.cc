#include "reference/stage.h"

#include <utility>

namespace verify_tflite {
namespace {

constexpr std::pair<Stage, Stage> kRotated[] = {
    {Stage::kInputNorm, Stage::kRotatedInputNorm},
    {Stage::kAttention, Stage::kRotatedAttention},
    {Stage::kMlpNorm, Stage::kRotatedMlpNorm},
    {Stage::kMlpInner, Stage::kRotatedMlpInner},
    {Stage::kFinalNorm, Stage::kRotatedFinalNorm},
};

}  // namespace

std::string_view NameOf(Stage stage) {
  switch (stage) {
    case Stage::kEmbedding:
      return "embedding";
    case Stage::kPerLayerModelProjection:
      return "per_layer_model_projection";
    case Stage::kPerLayerInputs:
      return "per_layer_inputs";
    case Stage::kStreamProjection:
      return "stream_projection";
    case Stage::kPredictionInput:
      return "prediction_input";
    case Stage::kPredictionRouter:
      return "prediction_router";
    case Stage::kPredictionModalities:
      return "prediction_modalities";
    case Stage::kPredictionCoefficients:
      return "prediction_coefficients";
    case Stage::kPrediction:
      return "prediction";
    case Stage::kLaurelLeft:
      return "laurel_left";
    case Stage::kLaurelRight:
      return "laurel_right";
    case Stage::kLaurelNorm:
      return "laurel_norm";
    case Stage::kCorrectionInput:
      return "correction_input";
    case Stage::kCorrectionRouter:
      return "correction_router";
    case Stage::kCorrectionModalities:
      return "correction_modalities";
    case Stage::kCorrectionCoefficients:
      return "correction_coefficients";
    case Stage::kPerLayerEntry:
      return "per_layer_entry";
    case Stage::kStreamInput:
      return "stream_input";
    case Stage::kStreamOutput:
      return "stream_output";
    case Stage::kInputNorm:
      return "input_norm";
    case Stage::kQueryProjection:
      return "query_projection";
    case Stage::kKeyProjection:
      return "key_projection";
    case Stage::kValueProjection:
      return "value_projection";
    case Stage::kQueryNorm:
      return "query_norm";
    case Stage::kKeyNorm:
      return "key_norm";
    case Stage::kQuery:
      return "query";
    case Stage::kKey:
      return "key";
    case Stage::kValue:
      return "value";
    case Stage::kAttention:
      return "attention";
    case Stage::kConvProjection:
      return "conv_projection";
    case Stage::kConvInput:
      return "conv_input";
    case Stage::kConvState:
      return "conv_state";
    case Stage::kConvGated:
      return "conv_gated";
    case Stage::kAttentionOutput:
      return "attention_output";
    case Stage::kAttentionNorm:
      return "attention_norm";
    case Stage::kAfterAttention:
      return "after_attention";
    case Stage::kMlpNorm:
      return "mlp_norm";
    case Stage::kRouter:
      return "router";
    case Stage::kExpertWeights:
      return "expert_weights";
    case Stage::kExpertGate:
      return "expert_gate";
    case Stage::kExpertUp:
      return "expert_up";
    case Stage::kExpertInner:
      return "expert_inner";
    case Stage::kExpertOutput:
      return "expert_output";
    case Stage::kSharedScale:
      return "shared_scale";
    case Stage::kGateProjection:
      return "gate_projection";
    case Stage::kUpProjection:
      return "up_projection";
    case Stage::kMlpInner:
      return "mlp_inner";
    case Stage::kMlpOutput:
      return "mlp_output";
    case Stage::kOutputNorm:
      return "output_norm";
    case Stage::kAfterMlp:
      return "after_mlp";
    case Stage::kPerLayerGate:
      return "per_layer_gate";
    case Stage::kPerLayerInner:
      return "per_layer_inner";
    case Stage::kPerLayerOutput:
      return "per_layer_output";
    case Stage::kPerLayerNorm:
      return "per_layer_norm";
    case Stage::kAfterPerLayer:
      return "after_per_layer";
    case Stage::kLayerOutput:
      return "layer_output";
    case Stage::kFinalNorm:
      return "final_norm";
    case Stage::kHead:
      return "head";
    case Stage::kRotatedInputNorm:
      return "rotated_input_norm";
    case Stage::kRotatedAttention:
      return "rotated_attention";
    case Stage::kRotatedMlpNorm:
      return "rotated_mlp_norm";
    case Stage::kRotatedMlpInner:
      return "rotated_mlp_inner";
    case Stage::kRotatedFinalNorm:
      return "rotated_final_norm";
  }
  return "unknown";
}

bool IsLinear(Stage stage) {
  switch (stage) {
    case Stage::kQueryProjection:
    case Stage::kKeyProjection:
    case Stage::kValueProjection:
    case Stage::kConvProjection:
    case Stage::kAttentionOutput:
    case Stage::kGateProjection:
    case Stage::kUpProjection:
    case Stage::kMlpOutput:
    case Stage::kStreamProjection:
    case Stage::kPredictionRouter:
    case Stage::kPredictionCoefficients:
    case Stage::kLaurelLeft:
    case Stage::kLaurelRight:
    case Stage::kCorrectionRouter:
    case Stage::kCorrectionCoefficients:
    case Stage::kStreamOutput:
    case Stage::kRouter:
    case Stage::kExpertGate:
    case Stage::kExpertUp:
    case Stage::kExpertOutput:
    case Stage::kSharedScale:
    case Stage::kPerLayerModelProjection:
    case Stage::kPerLayerGate:
    case Stage::kPerLayerOutput:
    case Stage::kHead:
      return true;
    default:
      return false;
  }
}

bool IsOfStream(Stage stage) {
  return stage == Stage::kStreamProjection || stage == Stage::kStreamInput ||
         stage == Stage::kStreamOutput;
}

std::optional<Stage> RotatedOf(Stage stage) {
  for (const auto& [plain, rotated] : kRotated) {
    if (plain == stage) return rotated;
  }
  return std::nullopt;
}

std::optional<Stage> UnrotatedOf(Stage stage) {
  for (const auto& [plain, rotated] : kRotated) {
    if (rotated == stage) return plain;
  }
  return std::nullopt;
}

}  // namespace verify_tflite
