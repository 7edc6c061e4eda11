// The places in a decoder whose activations can be looked at.
#ifndef VERIFY_TFLITE_REFERENCE_STAGE_H_
#define VERIFY_TFLITE_REFERENCE_STAGE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

namespace verify_tflite {

// In the order of computation; a layer has those that its family computes.
enum class Stage {
  kEmbedding,                // what enters layer 0
  kPerLayerModelProjection,  // with per_layer_size, of kEmbedding
  kPerLayerInputs,           // what all layers are given
  // With ModelConfig::num_streams. Of a stream: what the others are made of.
  kStreamProjection,        // of kEmbedding, for each other stream
  kPredictionInput,         // of a layer: enters the router
  kPredictionRouter,        // of the router
  kPredictionModalities,    // its tanh
  kPredictionCoefficients,  // of each stream in each other
  kPrediction,              // the stream that the layer computes with
  kInputNorm,                // enters q, k and v (phi: the MLP, too)
  kRotatedInputNorm,         // what they read, where weights are rotated
                      // (FileWeight::rotation), as the other four kRotated…
  kLaurelLeft,        // with laurel_rank: of kInputNorm
  kLaurelRight,       // of kLaurelLeft
  kLaurelNorm,        // of kLaurelRight
  kQueryProjection,  // bias included, [num_heads * head_dim]
  kKeyProjection,
  kValueProjection,
  kQueryNorm,  // with ModelConfig::qk_norm
  kKeyNorm,
  kQuery,  // after RoPE, or the same as before in a layer without
  kKey,
  kValue,      // as the KV cache has it: kValueProjection, or its norm
  kAttention,  // heads' outputs, enters o_proj
  kRotatedAttention,
  // In place of those from kQueryProjection on, with LayerConfig::conv.
  kConvProjection,   // both gates and what is convolved, [3 * hidden_size]
  kConvInput,        // what is convolved times the first gate
  kConvState,        // kConvInput of a row's position and of those before it
                     // that the next row's convolution sees
  kConvGated,        // the convolution times the second gate; enters its output
  kAttentionOutput,  // of o_proj, or of the convolution's output
  kAttentionNorm,    // of kAttentionOutput, with sandwich_norms
  kAfterAttention,   // residual stream; not with phi_block
  kMlpNorm,          // enters the MLP; not with phi_block
  kRotatedMlpNorm,
  kRouter,         // of experts: a product for each
  kExpertWeights,  // one for each expert, 0 for those that a row does not take
  kExpertGate,     // of one expert, as the next three: all rows, whichever take
  kExpertUp,       // it. With Reference::Options::all_experts alone.
  kExpertInner,
  kExpertOutput,
  kGateProjection,  // with gated_mlp; before the activation. Of experts, of the
                    // shared one, as those up to kMlpOutput.
  kUpProjection,    // without gate, what the activation applies to
  kMlpInner,        // enters down_proj
  kRotatedMlpInner,
  kMlpOutput,       // of down_proj
  kSharedScale,     // with ExpertsConfig::shared_scale, before the sigmoid
  kOutputNorm,      // of kMlpOutput, with sandwich_norms
  kAfterMlp,        // residual stream behind the MLP
  // With num_streams.
  kCorrectionInput,  // enters the router
  kCorrectionRouter,
  kCorrectionModalities,
  kCorrectionCoefficients,  // one added
  kPerLayerEntry,   // what kPerLayerGate is of in place of kAfterMlp
  kPerLayerGate,    // with per_layer_size: of kAfterMlp, before the activation
  kPerLayerInner,   // enters the projection
  kPerLayerOutput,  // of the projection
  kPerLayerNorm,    // of kPerLayerOutput
  kAfterPerLayer,   // residual stream
  kLayerOutput,     // with layer_scalar, times that
  kStreamInput,     // with num_streams: each but the first behind the layers
  kStreamOutput,    // of its projection
  kFinalNorm,       // enters the LM head
  kRotatedFinalNorm,
  kHead,  // logits before soft-capping
};

std::string_view NameOf(Stage stage);  // "embedding", "input_norm", …

// Of a product with weights, its bias included.
bool IsLinear(Stage stage);

// Whether its number is that of a stream, less one, not of a layer.
bool IsOfStream(Stage stage);

// The stage that a rotation makes of `stage`, and the stage it is made of.
std::optional<Stage> RotatedOf(Stage stage);
std::optional<Stage> UnrotatedOf(Stage stage);

struct Captured {
  Stage stage;
  // -1 for kEmbedding, kPerLayerModelProjection, kPerLayerInputs, kFinalNorm,
  // its rotation and kHead; as IsOfStream says.
  int64_t layer;
  int64_t rows;
  int64_t width;
  // [rows, width], valid during the call. What is written to them is what the
  // pass goes on with.
  std::span<float> values;
  // The rows that Reference::Item has as probed were not computed.
  bool without_probed = false;
  int64_t expert = -1;  // of the stages of one expert
};

using CaptureFn = std::function<void(const Captured&)>;

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_STAGE_H_
