// SPDX-License-Identifier: Apache-2.0
// What is known of one model family: how its config.json is read, and how its
// checkpoints name and store tensors. Each has a file of its own here.
#ifndef VERIFY_TFLITE_CHECKPOINT_FAMILIES_FAMILY_H_
#define VERIFY_TFLITE_CHECKPOINT_FAMILIES_FAMILY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/config_fields.h"
#include "checkpoint/model_config.h"
#include "checkpoint/weight_names.h"

namespace verify_tflite {

struct Family;

// Reads the settings of a decoder as the fields of `family` say.
ModelConfig ParseDecoder(const ConfigFields& fields, const Family& family);
// The same, with Family::aliases under the names that they stand for.
ModelConfig ParseRenamed(const ConfigFields& fields, const Family& family);

// Returns "text_config" of a multimodal model of the family `outer`, or the
// fields themselves where Family::flat allows it. Throws Error where there is
// none.
ConfigFields TextConfigOf(const ConfigFields& fields, const Family& outer);
// Reads the text model of a multimodal one of the family `outer`, whose
// config.json has `fields`. Whether its head is tied, the outer config says.
// Throws Error for a text model that `outer` does not take.
ModelConfig ParseTextModel(const ConfigFields& fields, const Family& outer);

// Lets the last `shared` layers take the keys and values of the last layer before
// them that is of their kind. Throws Error where there is none; `shared` is that
// of num_kv_shared_layers.
void ShareKeys(const ConfigFields& fields, int64_t shared, ModelConfig* config);
// Returns the names of norms, products and tables of per-layer embeddings.
std::vector<PartName> PerLayerNames();

inline constexpr double kMinTheta = 1;
inline constexpr double kMaxTheta = 1e15;

// Reads one RoPE for all layers.
void ParseRope(const ConfigFields& fields, const Family& family,
               ModelConfig* result);
// Reads one RoPE for layers with a window and one for the others, as
// Gemma3TextConfig.convert_rope_params_to_dict does: rope_scaling is of the
// latter only.
void ParseTwoRopes(const ConfigFields& fields, const Family& family,
                   ModelConfig* result);

// Throws Error for a setting that transformers reads for `family` and the
// reference does not; returns a note on each that transformers ignores.
std::vector<std::string> CheckUnhandled(const ConfigFields& fields,
                                        const Family& family);

// Returns the activation that config.json names `name`, under `key`. Throws
// Error for one that is not supported.
Activation FindActivation(const ConfigFields& fields, std::string_view key,
                          std::string_view name);

// Returns the modules of LlamaForCausalLM, and norms of queries and keys.
std::vector<PartName> LlamaNames(const ModelConfig& config);
// Returns the same with norms of what attention and MLP give beside those of
// what they take, as Gemma 2 calls them.
std::vector<PartName> SandwichNames(const ModelConfig& config);
// Makes norms of what attention and MLP give the only ones, and returns what
// OLMo 2 calls them.
void SetPostNorms(ModelConfig* config);
std::vector<PartName> PostNormNames(const ModelConfig& config);
// What config.json calls the sizes of a mixture of experts.
struct ExpertKeys {
  std::string_view count = "num_experts";
  std::string_view count_alias = "";  // transformers reads it as `count`
  std::string_view taken = "num_experts_per_tok";
  std::string_view size = "moe_intermediate_size";
  int64_t usually_taken = 0;  // where config.json does not say
};
// Reads them.
void SetExperts(const ConfigFields& fields, const ExpertKeys& keys,
                ModelConfig* config);
// Makes all layers from `first` on ones with experts.
void SetExpertLayers(int64_t first, ModelConfig* config);
// Returns LlamaNames and those of "mlp.gate", the router, and of "mlp.experts".
std::vector<PartName> ExpertNames(const ModelConfig& config);
// Returns `names` without those of `parts`.
std::vector<PartName> Without(std::vector<PartName> names,
                              const std::vector<Part>& parts);
// Returns `names` with other rows in place of those of the same parts.
std::vector<PartName> Renamed(std::vector<PartName> names,
                              const std::vector<PartName>& rows);

// Which layers see a sliding window where "layer_types" does not say.
enum class Windows {
  kNone,
  kAll,          // "layer_types" has no say
  kUpper,        // from max_window_layers on, if use_sliding_window
  kPattern,      // all but every window_pattern-th
  kWithoutRope,  // if use_sliding_window
  kEach,         // or those that "layer_types" names
};

enum class Biases { kNone, kQkv, kAll, kFromConfig };

// What a config class of transformers 5.24 assumes where config.json is silent,
// and what its model class computes. Sizes that shape a tensor have defaults
// only where published files leave them out.
struct Family {
  std::string_view model_type;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  double local_rope_theta = 0;  // 0: one RoPE for all layers
  int64_t max_position_embeddings = 0;
  int64_t original_max_position_embeddings = 0;  // 0: no default of its own
  int64_t vocab_size = 0;                        // 0: must be there
  int64_t num_heads = 0;                         // 0: must be there
  int64_t num_kv_heads = 0;                      // 0: as num_heads
  int64_t head_dim = 0;                          // 0: hidden_size / num_heads
  bool tie_word_embeddings = false;
  Biases attention_bias = Biases::kNone;
  Windows windows = Windows::kNone;
  int64_t sliding_window = 0;  // 0: none
  int64_t window_pattern = 0;
  int64_t max_window_layers = 28;
  bool window_switch = false;  // kAll: if use_sliding_window
  // Where layers have windows, those without have no RoPE.
  bool rope_with_window_alone = false;
  std::string_view activation_key = "hidden_act";
  std::string_view activation = "silu";
  // transformers takes the first Gemma files at what they meant.
  bool gelu_is_tanh = false;
  double query_pre_attn_scalar = 0;  // 0: head_dim, whatever the config says
  double attention_softcap = 0;      // 0: none
  double logit_softcap = 0;
  bool long_rope = false;  // the only scaling it knows
  bool ntk_alpha = false;  // "dynamic" with "alpha" scales the base
  // What stands for "rope_parameters" where it is absent, as JSON.
  std::string_view default_rope = "";
  double partial_rotary_factor = 1;
  std::string_view norm_eps_key = "rms_norm_eps";
  std::string_view kv_heads_key = "num_key_value_heads";
  std::string_view intermediate_key = "intermediate_size";
  int64_t intermediate_factor = 0;  // of hidden_size; 0: must be there
  // Keys that change the computation of some model (unhandled_keys.cc) and are
  // read here, or have no effect on this family.
  std::vector<std::string_view> handles = {};
  // Those of them that transformers reads for this family, but the reference
  // does not: an error, unless they are off.
  std::vector<std::string_view> reads = {};
  // Its class is transformers': what that ignores is known.
  bool of_transformers = true;

  // Keys that this family has under names of its own, and those of the others.
  std::vector<std::pair<std::string_view, std::string_view>> aliases = {};

  // Sets what its block computes beyond a Llama's.
  void (*set_block)(const ConfigFields& fields, ModelConfig* config) = nullptr;
  // Sets what else `rope`, its RoPE settings, say.
  void (*set_rope)(const ConfigFields& rope, const ConfigFields& fields,
                   ModelConfig* config) = nullptr;
  // Sets what its layers differ in beyond windows.
  void (*set_layers)(const ConfigFields& fields, ModelConfig* config) = nullptr;
  // Reads RoPE where neither ParseRope nor ParseTwoRopes does.
  void (*read_rope)(const ConfigFields& fields, ModelConfig* config) = nullptr;
  ModelConfig (*parse)(const ConfigFields& fields,
                       const Family& family) = ParseDecoder;

  // Of a multimodal model: the family of its text model where "text_config"
  // names none, and whether it takes no other. Empty: a text model.
  std::string_view text = "";
  bool text_is_fixed = false;
  // That family, where it is none by itself.
  Family (*own_text)() = nullptr;
  // The text model's settings may stand beside the others, as older files have
  // them.
  bool flat = false;
  // The head is tied, too, where the text model's settings alone say so.
  bool tied_by_text = false;
  // Its head is a product and nothing else, whatever the text model's own does.
  bool plain_head = false;

  // Of a multimodal model those of its text model count.
  std::vector<PartName> (*names)(const ModelConfig& config) = LlamaNames;
  // As files are saved today, and as they were.
  std::vector<NamePrefix> prefixes = {{"model.", ""}};
  bool grouped_qkv = false;  // as WeightNames has it

  bool Handles(std::string_view key) const;
};

// Returns the family of the text model that `outer` has under `model_type`;
// nothing where it takes none of this type.
std::optional<Family> TextFamily(const Family& outer,
                                 std::string_view model_type);

// Returns null for a model_type that is not supported.
const Family* FindFamily(std::string_view model_type);
// Returns all, in the order in which messages name them.
const std::vector<Family>& AllFamilies();

Error NotSupported(const ConfigFields& fields, const std::string& model_type);

// Returns the names that checkpoints of `config` may have, one for each prefix
// of the family.
std::vector<WeightNames> WeightNamesOf(const ModelConfig& config);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_FAMILIES_FAMILY_H_
