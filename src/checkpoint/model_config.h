// What config.json says about a decoder, in the terms the reference computes
// with.
#ifndef VERIFY_TFLITE_CHECKPOINT_MODEL_CONFIG_H_
#define VERIFY_TFLITE_CHECKPOINT_MODEL_CONFIG_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace verify_tflite {

// RoPE scaling of Llama 3.1 ("rope_type": "llama3"); parameters as in
// transformers' modeling_rope_utils.
struct Llama3RopeScaling {
  double factor = 0;
  double low_freq_factor = 0;
  double high_freq_factor = 0;
  int64_t original_max_position_embeddings = 0;
};

// Frequencies of their own for short and for long sequences ("rope_type":
// "longrope", Phi-3).
struct LongRopeScaling {
  std::vector<double> short_factor;  // rotary_dim / 2 each
  std::vector<double> long_factor;
  // Sequences of more tokens than this take long_factor.
  int64_t original_max_position_embeddings = 0;
};

// "rope_type": "yarn"; parameters as in transformers' modeling_rope_utils.
struct YarnRopeScaling {
  double factor = 0;
  double beta_fast = 0;
  double beta_slow = 0;
  int64_t original_max_position_embeddings = 0;
  bool truncate = true;
};

// kGeluQuick, x sigmoid(1.702 x), is no supported checkpoint's, but what some
// conversions make of the others. kXielu has trained numbers of each layer
// (https://arxiv.org/abs/2411.13010).
enum class Activation {
  kSilu,
  kGeluTanh,
  kGelu,
  kGeluQuick,
  kRelu2,  // the square of ReLU
  kXielu,
};

// Queries are scaled by 1 + beta log(1 + floor(position / original)), original
// being original_max_position_embeddings ("llama_4_scaling_beta").
struct QueryScaling {
  double beta = 0;
  int64_t original_max_position_embeddings = 0;
};

// How a router's products become scores.
enum class RouterScores { kSoftmax, kSigmoid };

// A mixture of experts in place of an MLP: each row takes some of them, which a
// router chooses by their scores, and their outputs are added, weighted.
struct ExpertsConfig {
  int64_t count = 0;  // 0: none
  int64_t taken = 0;
  int64_t intermediate_size = 0;  // of each
  RouterScores scores = RouterScores::kSoftmax;
  // Weights, the scores of the taken ones, are divided by their sum, plus
  // sum_offset and at least least_sum.
  bool normalised = false;
  double sum_offset = 0;
  double least_sum = 0;
  double scale = 1;          // of the weights then
  bool choice_bias = false;  // a bias of the scores by which they are chosen
  // Experts are in so many groups of one size. Those with the largest sum of
  // their best two alone are chosen from.
  int64_t groups = 1;
  int64_t groups_taken = 1;
  int64_t shared_size = 0;    // of an MLP that all rows take, too; 0: none
  bool shared_scale = false;  // a product's sigmoid scales its output
};

// What layers of one decoder may differ in.
struct LayerConfig {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // GQA: divides num_heads; == num_heads is MHA
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;
  bool experts = false;  // ModelConfig::experts in place of the MLP
  // Tokens a query sees, itself included; 0: all before it.
  int64_t window = 0;
  bool rope = true;
  bool local_rope = false;  // base local_rope_theta, unscaled
  // The layer whose keys and values it attends to; -1: it has its own.
  int64_t kv_source = -1;
  bool keys_are_values = false;  // values are what k projects, too
  // Of what gate gives, this share is set to 0 by the mean and the deviation of
  // a row, as if it were normally distributed. 0: nothing is.
  double sparsity = 0;
  // A short convolution in place of attention (ModelConfig::conv_taps). Heads
  // are those of what is kept of it: one, as wide as the residual stream.
  bool conv = false;

  // Whether it has keys and values of its own.
  bool HasKeys() const { return kv_source < 0 && !conv; }
};

// One configurable decoder; a model family (families/) is a setting of these
// fields.
// The version of transformers whose classes' computation the settings and the
// reference stand for.
inline constexpr std::string_view kTransformers = "5.24";

struct ModelConfig {
  std::string model_type;  // "llama"
  std::string text_type;   // of the text model of a multimodal one, else empty
  // That saved the checkpoint, as config.json has it; empty: it does not say.
  std::string transformers_version;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  // Of every layer; of the largest one where layers differ.
  int64_t intermediate_size = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  // Explicit, or hidden_size / num_heads; of layers with local_rope, where
  // layers differ.
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;  // or that of LayerNorm
  double rope_theta = 0;
  std::optional<Llama3RopeScaling> llama3_rope;  // at most one scaling
  std::optional<LongRopeScaling> long_rope;
  std::optional<YarnRopeScaling> yarn_rope;
  // "rope_type": "dynamic": unscaled up to max_position_embeddings; beyond,
  // frequencies depend on the length of the text.
  bool dynamic_rope = false;
  double rope_attention_factor = 1;  // of both cos and sin
  double rope_linear_factor = 1;     // divides the frequencies
  double local_rope_theta = 0;       // of layers with local_rope
  int64_t rotary_dim = 0;            // the first elements of a head that rotate
  // Elements 2 i and 2 i + 1 of a head turn together, not i and
  // i + rotary_dim / 2.
  bool interleaved_rope = false;
  bool reversed_rope = false;                 // by minus the angle
  std::optional<QueryScaling> query_scaling;  // behind RoPE
  int64_t local_rotary_dim = 0;      // of layers with local_rope; 0: rotary_dim
  // "rope_type": "proportional": of the rotary_dim / 2 pairs, the first ones
  // that rotate; the others have a frequency of 0. 0: all.
  int64_t rotating_pairs = 0;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;                      // gate, up and down
  Activation activation = Activation::kSilu;  // of gate
  std::vector<LayerConfig> layers;            // num_layers

  bool alibi = false;  // a bias for each key's position, in place of RoPE
  double attention_scale = 0;  // of q k^T, usually 1 / sqrt(head_dim)
  std::optional<double> attention_softcap;  // c tanh(score / c)
  std::optional<double> logit_softcap;
  double embedding_scale = 1;  // of the input; not of a tied head
  // Of what attention and MLP each add to the residual stream.
  double residual_scale = 1;
  double logit_divisor = 1;    // of the logits, before a soft cap
  bool norm_adds_one = false;  // norms scale by 1 + weight
  bool qk_norm = false;        // norm of each query and key head before RoPE
  bool qk_norm_of_all_heads = false;  // one norm for all heads of a row
  bool qk_norm_after_rope = false;
  bool v_norm = false;                // norm without weight of each value head
  bool input_norm = true;  // or attention takes the residual stream itself
  bool sandwich_norms = false;  // norms of attention's and MLP's output, too
  bool layer_norm = false;      // LayerNorm in place of RMSNorm
  bool norm_bias = true;        // of LayerNorm
  bool norm_weight = true;      // or norms do not scale
  bool embedding_norm = false;  // without weight, of what enters layer 0
  bool sub_norms = false;       // norms of what o and down read
  bool parallel_block = false;  // attention and MLP both of the block's input
  // Or the MLP takes what attention takes; in a block that is not parallel, the
  // residual stream itself.
  bool mlp_norm = true;
  bool gated_mlp = true;
  bool head_bias = false;
  // Numbers that each layer is given for each token, from an embedding and a
  // projection of their own (per-layer embeddings); 0: none.
  int64_t per_layer_size = 0;
  int64_t per_layer_vocab_size = 0;
  bool layer_scalar = false;  // what leaves a layer is multiplied by a weight
  // Residual streams, of which a layer computes one and predicts and corrects the
  // others (AltUp, https://arxiv.org/abs/2301.13310); 0: one alone.
  int64_t num_streams = 0;
  int64_t active_stream = 0;   // the one that layers compute
  bool stream_scale = false;   // what the per-layer gate reads is scaled
  int64_t laurel_rank = 0;     // of a product beside attention; 0: none
  ExpertsConfig experts;      // of layers with LayerConfig::experts
  // Of layers with LayerConfig::conv: how many positions a convolution sees,
  // its own the last, and whether it and its products have biases.
  int64_t conv_taps = 0;
  bool conv_bias = false;
  // Settings of config.json that transformers ignores for this family, as this
  // reference does: one sentence each.
  std::vector<std::string> notes;
};

// The sliding window of the layers that have one; no model of a supported
// family has two. None if no layer has one.
std::optional<int64_t> SlidingWindowOf(const ModelConfig& config);

// Returns how many layers have keys and values of their own. They are the first
// ones that have a cache of them at all.
int64_t NumKvLayers(const ModelConfig& config);

// Reads a parsed config.json; `origin` names it in messages. Accepts RoPE both
// as top-level `rope_theta` + `rope_scaling` and as transformers 5's
// `rope_parameters`. Throws Error for a missing, mistyped or absurd value, for
// a model_type that is not supported, and for any known key whose value changes
// what transformers computes in a way the reference does not do for that family
// (docs/families.md): never an approximation. A key that transformers does not
// read for the family is a note.
ModelConfig ParseModelConfig(const nlohmann::json& config,
                             const std::string& origin);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_MODEL_CONFIG_H_
