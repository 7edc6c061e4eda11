// What config.json says about a decoder, in the terms the reference computes
// with.
#ifndef VERIFY_TFLITE_CHECKPOINT_MODEL_CONFIG_H_
#define VERIFY_TFLITE_CHECKPOINT_MODEL_CONFIG_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace verify_tflite {

// RoPE scaling of Llama 3.1 ("rope_type": "llama3"); parameters as in
// transformers' modeling_rope_utils.
struct Llama3RopeScaling {
  double factor = 0;
  double low_freq_factor = 0;
  double high_freq_factor = 0;
  int64_t original_max_position_embeddings = 0;
};

// One configurable decoder; a model family is a setting of these fields.
struct ModelConfig {
  std::string model_type;  // "llama"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // GQA: divides num_heads; == num_heads is MHA
  int64_t head_dim = 0;      // explicit, or hidden_size / num_heads
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  double rope_theta = 0;
  std::optional<Llama3RopeScaling> llama3_rope;  // none: plain RoPE
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // q, k, v and o
  bool mlp_bias = false;        // gate, up and down
};

// Reads a parsed config.json; `origin` names it in messages. Accepts RoPE both
// as top-level `rope_theta` + `rope_scaling` and as transformers 5's
// `rope_parameters`. Throws Error for a missing, mistyped or absurd value, for
// a model_type that is not supported, and for any known key whose value would
// change the computation in a way the reference does not do (hidden_act,
// rope type, sliding window, quantization_config, …): never an approximation.
ModelConfig ParseModelConfig(const nlohmann::json& config,
                             const std::string& origin);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_MODEL_CONFIG_H_
