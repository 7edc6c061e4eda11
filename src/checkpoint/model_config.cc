#include "checkpoint/model_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

// No model comes near; products of two sizes stay far inside int64.
constexpr int64_t kMaxSize = int64_t{1} << 24;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

// Every layer is a key and a value cached, so a real model has few.
constexpr int64_t kMaxLayers = 4096;

// Which layers see a sliding window where "layer_types" does not say.
enum class Windows {
  kNone,
  kAll,          // "layer_types" has no say
  kUpper,        // from max_window_layers on, if use_sliding_window
  kPattern,      // all but every window_pattern-th
  kWithoutRope,  // if use_sliding_window
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
  bool mlp_bias = false;  // reads it from the config
  Windows windows = Windows::kNone;
  int64_t sliding_window = 0;  // 0: none
  int64_t window_pattern = 0;
  std::string_view activation_key = "hidden_act";
  std::string_view activation = "silu";
  double query_pre_attn_scalar = 0;  // 0: head_dim, whatever the config says
  double attention_softcap = 0;      // 0: none
  double logit_softcap = 0;
  bool no_rope_layers = false;
  bool long_rope = false;  // the only scaling it knows
  double partial_rotary_factor = 1;
  std::string_view norm_eps_key = "rms_norm_eps";
  std::string_view kv_heads_key = "num_key_value_heads";
  std::string_view intermediate_key = "intermediate_size";
  int64_t intermediate_factor = 0;  // of hidden_size; 0: must be there
  bool scales_embedding = false;
  bool norm_adds_one = false;
  bool qk_norm = false;
  bool sandwich_norms = false;
  bool fused_projections = false;
  bool phi_block = false;
  bool falcon_block = false;
  // Keys of kUnhandled that are read for this family, or have no effect on it.
  std::span<const std::string_view> handles = {};
};

constexpr std::string_view kLlamaKeys[] = {"attention_bias", "mlp_bias"};
constexpr std::string_view kMistralKeys[] = {"sliding_window"};
// transformers reads no attention_bias for qwen2: q, k and v always have one.
constexpr std::string_view kQwen2Keys[] = {"sliding_window", "attention_bias"};
constexpr std::string_view kQwen3Keys[] = {"sliding_window", "attention_bias"};
constexpr std::string_view kGemmaKeys[] = {"attention_bias"};
constexpr std::string_view kGemma2Keys[] = {
    "attention_bias", "sliding_window", "query_pre_attn_scalar",
    "attn_logit_softcapping", "final_logit_softcapping"};
// The attention of gemma3 does not look at attn_logit_softcapping.
constexpr std::string_view kGemma3Keys[] = {
    "attention_bias",         "sliding_window",
    "query_pre_attn_scalar",  "final_logit_softcapping",
    "sliding_window_pattern", "rope_local_base_freq"};
constexpr std::string_view kPhi3Keys[] = {"sliding_window",
                                          "partial_rotary_factor"};
constexpr std::string_view kPhiKeys[] = {"partial_rotary_factor"};
constexpr std::string_view kFalconKeys[] = {"alibi", "parallel_attn"};
constexpr std::string_view kSmolLm3Keys[] = {
    "attention_bias", "mlp_bias", "sliding_window", "no_rope_layers"};

constexpr Family kFamilies[] = {
    {.model_type = "llama",
     .max_position_embeddings = 2048,
     .attention_bias = Biases::kFromConfig,
     .mlp_bias = true,
     .handles = kLlamaKeys},
    {.model_type = "mistral",
     .max_position_embeddings = 131072,
     .num_kv_heads = 8,
     .windows = Windows::kAll,
     .sliding_window = 4096,
     .handles = kMistralKeys},
    {.model_type = "qwen2",
     .max_position_embeddings = 32768,
     .num_kv_heads = 32,
     .attention_bias = Biases::kQkv,
     .windows = Windows::kUpper,
     .sliding_window = 4096,
     .handles = kQwen2Keys},
    {.model_type = "qwen3",
     .max_position_embeddings = 32768,
     .num_kv_heads = 32,
     .head_dim = 128,
     .attention_bias = Biases::kFromConfig,
     .windows = Windows::kUpper,
     .sliding_window = 4096,
     .qk_norm = true,
     .handles = kQwen3Keys},
    {.model_type = "gemma",
     .max_position_embeddings = 8192,
     .num_kv_heads = 16,
     .head_dim = 256,
     .tie_word_embeddings = true,
     .attention_bias = Biases::kFromConfig,
     .activation = "gelu_pytorch_tanh",
     .scales_embedding = true,
     .norm_adds_one = true,
     .handles = kGemmaKeys},
    {.model_type = "gemma2",
     .max_position_embeddings = 8192,
     .num_kv_heads = 4,
     .head_dim = 256,
     .tie_word_embeddings = true,
     .attention_bias = Biases::kFromConfig,
     .windows = Windows::kPattern,
     .sliding_window = 4096,
     .window_pattern = 2,
     .activation_key = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .query_pre_attn_scalar = 256,
     .attention_softcap = 50,
     .logit_softcap = 30,
     .scales_embedding = true,
     .norm_adds_one = true,
     .sandwich_norms = true,
     .handles = kGemma2Keys},
    {.model_type = "gemma3_text",
     .rope_theta = 1e6,
     .local_rope_theta = 1e4,
     .max_position_embeddings = 131072,
     .vocab_size = 262208,
     .num_heads = 8,
     .num_kv_heads = 4,
     .head_dim = 256,
     .tie_word_embeddings = true,
     .attention_bias = Biases::kFromConfig,
     .windows = Windows::kPattern,
     .sliding_window = 4096,
     .window_pattern = 6,
     .activation_key = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .query_pre_attn_scalar = 256,
     .scales_embedding = true,
     .norm_adds_one = true,
     .qk_norm = true,
     .sandwich_norms = true,
     .handles = kGemma3Keys},
    {.model_type = "phi3",
     .rms_norm_eps = 1e-5,
     .max_position_embeddings = 4096,
     .original_max_position_embeddings = 4096,
     .windows = Windows::kAll,
     .long_rope = true,
     .fused_projections = true,
     .handles = kPhi3Keys},
    {.model_type = "smollm3",
     .rope_theta = 2e6,
     .max_position_embeddings = 32768,
     .num_kv_heads = 4,
     .tie_word_embeddings = true,
     .attention_bias = Biases::kFromConfig,
     .mlp_bias = true,
     .windows = Windows::kWithoutRope,
     .no_rope_layers = true,
     .handles = kSmolLm3Keys},
    {.model_type = "phi",
     .rms_norm_eps = 1e-5,
     .max_position_embeddings = 2048,
     .attention_bias = Biases::kAll,
     .activation = "gelu_new",
     .partial_rotary_factor = 0.5,
     .norm_eps_key = "layer_norm_eps",
     .phi_block = true,
     .handles = kPhiKeys},
    {.model_type = "falcon",
     .rms_norm_eps = 1e-5,
     .max_position_embeddings = 2048,
     .tie_word_embeddings = true,
     .activation_key = "activation",
     .activation = "gelu",
     .norm_eps_key = "layer_norm_epsilon",
     .kv_heads_key = "num_kv_heads",
     .intermediate_key = "ffn_hidden_size",
     .intermediate_factor = 4,
     .falcon_block = true,
     .handles = kFalconKeys},
};

// Who reads a setting in transformers 5.24, beside the families that handle it.
enum class Readers {
  kAll,    // or nothing is known of who does
  kSome,   // Unhandled::families
  kCache,  // no forward pass, but its KV cache keeps that many tokens alone
};

constexpr std::string_view kGemmas[] = {"gemma", "gemma2", "gemma3_text"};
constexpr std::string_view kPhi[] = {"phi"};

// Settings that change the computation of some model. For a family that reads
// and does not handle them they may be absent, null or the value that switches
// them off; for one that does not read them they change nothing.
// testdata/ignored_keys.json has what transformers makes of each.
struct Unhandled {
  std::string_view key;
  std::string_view off;  // as JSON
  Readers readers = Readers::kSome;
  std::span<const std::string_view> families = {};
};

constexpr Unhandled kUnhandled[] = {
    {"quantization_config", "null", Readers::kAll},
    {"compression_config", "null", Readers::kAll},
    {"is_encoder_decoder", "false", Readers::kAll},
    {"add_cross_attention", "false", Readers::kAll},
    {"is_causal", "true", Readers::kAll},
    {"sliding_window", "null", Readers::kCache},
    {"attention_chunk_size", "null", Readers::kCache},
    {"use_bidirectional_attention", "false", Readers::kSome, kGemmas},
    {"qk_layernorm", "false", Readers::kSome, kPhi},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"partial_rotary_factor", "1.0"},
    {"sliding_window_pattern", "null"},
    {"rope_local_base_freq", "null"},
    {"no_rope_layers", "null"},
    {"use_qk_norm", "false"},
    {"qk_norm", "false"},
    {"attn_logit_softcapping", "null"},
    {"final_logit_softcapping", "null"},
    {"query_pre_attn_scalar", "null"},
    {"clip_qkv", "null"},
    {"alibi", "false"},
    {"embedding_multiplier", "1.0"},
    {"residual_multiplier", "1.0"},
    {"attention_multiplier", "null"},
    {"logits_scaling", "1.0"},
    {"logit_scale", "1.0"},
    {"num_experts", "0"},
    {"num_local_experts", "0"},
    {"parallel_attn", "false"},
};

std::string Dump(const json& value) {
  const std::string text =
      value.dump(-1, ' ', false, json::error_handler_t::replace);
  constexpr size_t kMost = 60;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "…";
}

// The members of one JSON object; null counts as absent, as in transformers.
class Fields {
 public:
  Fields(const json& object, std::string origin)
      : object_(object), origin_(std::move(origin)) {}

  const std::string& origin() const { return origin_; }

  const json* Find(std::string_view key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  // For keys whose null means something else than their absence.
  bool IsNull(std::string_view key) const {
    const auto found = object_.find(key);
    return found != object_.end() && found->is_null();
  }

  int64_t Size(std::string_view key, std::optional<int64_t> absent = {},
               int64_t max = kMaxSize, uint64_t min = 1) const {
    const json* value = Find(key);
    if (value == nullptr && absent) return *absent;
    if (value == nullptr) throw Error("{}: no \"{}\"", origin_, key);
    if (!value->is_number_unsigned() || value->get<uint64_t>() < min ||
        value->get<uint64_t>() > static_cast<uint64_t>(max)) {
      throw Unexpected(key, *value,
                       fmt::format("an integer from {} to {}", min, max));
    }
    return value->get<int64_t>();
  }

  double Number(std::string_view key, std::optional<double> absent, double min,
                double max) const {
    const json* value = Find(key);
    if (value == nullptr && absent) return *absent;
    if (value == nullptr) throw Error("{}: no \"{}\"", origin_, key);
    if (!value->is_number() || !(value->get<double>() >= min) ||
        !(value->get<double>() <= max)) {
      throw Unexpected(key, *value,
                       fmt::format("a number from {} to {}", min, max));
    }
    return value->get<double>();
  }

  bool Flag(std::string_view key, bool absent) const {
    const json* value = Find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) {
      throw Unexpected(key, *value, "true or false");
    }
    return value->get<bool>();
  }

  std::string Text(std::string_view key, std::string_view absent) const {
    const json* value = Find(key);
    if (value == nullptr) return std::string(absent);
    if (!value->is_string()) throw Unexpected(key, *value, "a string");
    return value->get<std::string>();
  }

  Error Unexpected(std::string_view key, const json& value,
                   std::string_view expected) const {
    return Error("{}: \"{}\" is {}, expected {}", origin_, key, Dump(value),
                 expected);
  }

 private:
  const json& object_;
  std::string origin_;
};

const Family* FindFamily(std::string_view model_type) {
  const auto found =
      std::ranges::find(kFamilies, model_type, &Family::model_type);
  return found == std::end(kFamilies) ? nullptr : found;
}

constexpr std::string_view kMultimodal = "gemma3";
constexpr std::string_view kOpenElm = "openelm";
constexpr std::string_view kMultimodalText = "gemma3_text";

Error NotSupported(const Fields& fields, const std::string& model_type) {
  std::vector<std::string_view> supported;
  for (const Family& family : kFamilies) supported.push_back(family.model_type);
  supported.push_back(kMultimodal);
  supported.push_back(kOpenElm);
  return Error("{}: model_type {} is not supported; supported: {}",
               fields.origin(), Dump(json(model_type)),
               fmt::join(supported, ", "));
}

// OpenELM's class is not transformers': nothing is known of what it ignores.
bool IsRead(const Unhandled& row, std::string_view model_type) {
  return row.readers == Readers::kAll || model_type == kOpenElm ||
         std::ranges::count(row.families, model_type) > 0;
}

// Errors for what is read and not handled, notes on what is not read.
std::vector<std::string> CheckUnhandled(const Fields& fields,
                                        const Family& family) {
  std::vector<std::string> notes;
  for (const Unhandled& row : kUnhandled) {
    const json* value = fields.Find(row.key);
    if (value == nullptr || *value == json::parse(row.off)) continue;
    if (std::ranges::count(family.handles, row.key) > 0) continue;
    // Qwen-style configs name a window and say that it is not used.
    if (row.key == "sliding_window" &&
        !fields.Flag("use_sliding_window", true)) {
      continue;
    }
    if (IsRead(row, family.model_type)) {
      throw Error(
          "{}: \"{}\" is {}; the reference does not compute this for {}, it "
          "expects {}",
          fields.origin(), row.key, Dump(*value), family.model_type, row.off);
    }
    notes.push_back(fmt::format(
        "{}: \"{}\" is {}: transformers ignores it for {}, and so does this "
        "verification{}",
        fields.origin(), row.key, Dump(*value), family.model_type,
        row.readers == Readers::kCache
            ? " (in a forward pass; transformers' KV cache drops what is "
              "further back, so its generate() differs on longer texts)"
            : ""));
  }
  return notes;
}

Activation FindActivation(const Fields& fields, std::string_view key,
                          std::string_view name) {
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    return Activation::kGeluTanh;
  }
  if (name == "gelu") return Activation::kGelu;
  throw Error("{}: \"{}\" is {}, supported: silu, gelu, gelu_pytorch_tanh",
              fields.origin(), key, Dump(json(name)));
}

// Gemma files carry both keys, one of which transformers does not read: they
// must agree.
void ParseActivation(const Fields& fields, const Family& family,
                     ModelConfig* result) {
  const auto find = [&](std::string_view key) {
    std::string name = fields.Text(key, family.activation);
    // transformers takes the first Gemma files at what they meant.
    if (family.model_type == "gemma" && name == "gelu") {
      name = "gelu_pytorch_tanh";
    }
    return FindActivation(fields, key, name);
  };
  result->activation = find(family.activation_key);
  for (const std::string_view key : {"hidden_act", "hidden_activation"}) {
    if (fields.Find(key) != nullptr && find(key) != result->activation) {
      throw Error("{}: \"{}\" and \"{}\" differ", fields.origin(),
                  family.activation_key, key);
    }
  }
}

// The elements of an array of `count`.
const json& Array(const Fields& fields, std::string_view key, const json& value,
                  size_t count, bool or_more = false) {
  if (!value.is_array() || value.size() < count ||
      (!or_more && value.size() > count)) {
    throw fields.Unexpected(
        key, value,
        fmt::format("an array of {}{}", or_more ? "at least " : "", count));
  }
  return value;
}

void ParseRopeLayers(const Fields& fields, ModelConfig* result) {
  constexpr std::string_view kKey = "no_rope_layers";
  const json* value = fields.Find(kKey);
  const int64_t interval = fields.Size("no_rope_layer_interval", 4);
  if (value != nullptr) {
    Array(fields, kKey, *value, result->layers.size(), /*or_more=*/true);
  }
  for (size_t i = 0; i < result->layers.size(); ++i) {
    if (value == nullptr) {
      result->layers[i].rope = (static_cast<int64_t>(i) + 1) % interval != 0;
      continue;
    }
    const json& rope = (*value)[i];
    if (rope != 0 && rope != 1) {
      throw fields.Unexpected(kKey, *value, "numbers 0 and 1");
    }
    result->layers[i].rope = rope == 1;
  }
}

// Whether each layer has a window, by the rule of the family.
std::vector<bool> SlidingByRule(const Fields& fields, const Family& family,
                                const ModelConfig& config, bool window) {
  int64_t from = 0;
  int64_t pattern = family.window_pattern;
  if (family.windows == Windows::kUpper) {
    from = fields.Size("max_window_layers", 28, kMaxSize, /*min=*/0);
  }
  if (std::ranges::count(family.handles, "sliding_window_pattern") > 0) {
    pattern = fields.Size("sliding_window_pattern", pattern);
  }
  std::vector<bool> sliding(config.layers.size());
  for (size_t i = 0; i < sliding.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    switch (family.windows) {
      case Windows::kNone:
        break;
      case Windows::kAll:
        sliding[i] = window;
        break;
      case Windows::kUpper:
        sliding[i] = window && index >= from;
        break;
      case Windows::kPattern:
        sliding[i] = (index + 1) % pattern != 0;
        break;
      case Windows::kWithoutRope:
        sliding[i] = window && !config.layers[i].rope;
        break;
    }
  }
  return sliding;
}

std::vector<bool> ReadLayerTypes(const Fields& fields, const json& types,
                                 size_t count) {
  constexpr std::string_view kKey = "layer_types";
  std::vector<bool> sliding;
  for (const json& type : Array(fields, kKey, types, count)) {
    sliding.push_back(type == "sliding_attention");
    if (sliding.back() || type == "full_attention") continue;
    throw Error(
        "{}: \"layer_types\" has {}, supported: \"full_attention\", "
        "\"sliding_attention\"",
        fields.origin(), Dump(type));
  }
  return sliding;
}

int64_t ParseWindow(const Fields& fields, const Family& family) {
  constexpr std::string_view kKey = "sliding_window";
  const bool switched = family.windows == Windows::kUpper ||
                        family.windows == Windows::kWithoutRope;
  if (family.windows == Windows::kNone || fields.IsNull(kKey)) return 0;
  if (switched && !fields.Flag("use_sliding_window", false)) return 0;
  return fields.Size(kKey, family.sliding_window, kMaxPositions);
}

void ParseLayers(const Fields& fields, const Family& family,
                 ModelConfig* result) {
  result->layers.resize(result->num_layers);
  if (family.no_rope_layers) ParseRopeLayers(fields, result);
  const int64_t window = ParseWindow(fields, family);
  std::vector<bool> sliding =
      SlidingByRule(fields, family, *result, window > 0);
  if (const json* types = fields.Find("layer_types")) {
    const std::vector<bool> named =
        ReadLayerTypes(fields, *types, sliding.size());
    const bool free =
        family.windows != Windows::kNone && family.windows != Windows::kAll;
    if (!free && named != sliding) {
      throw Error("{}: \"layer_types\" is {}; {} does not read it",
                  fields.origin(), Dump(*types), family.model_type);
    }
    sliding = named;
  }
  for (size_t i = 0; i < sliding.size(); ++i) {
    if (!sliding[i]) continue;
    if (window == 0) {
      throw Error(
          "{}: layer {} has \"sliding_attention\", but no window is set",
          fields.origin(), i);
    }
    result->layers[i].window = window;
    result->layers[i].local_rope = family.local_rope_theta > 0;
  }
}

// transformers lets a top-level value win over the one in the dictionary.
int64_t OriginalPositions(const Fields& rope, const Fields& fields,
                          const ModelConfig& config) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  const Fields& source = fields.Find(kKey) ? fields : rope;
  return source.Size(kKey, config.max_position_embeddings, kMaxPositions);
}

Llama3RopeScaling ParseLlama3Rope(const Fields& rope, const Fields& fields,
                                  const ModelConfig& config) {
  Llama3RopeScaling scaling;
  scaling.factor = rope.Number("factor", {}, 1, 1e6);
  scaling.low_freq_factor = rope.Number("low_freq_factor", {}, 1e-6, 1e6);
  scaling.high_freq_factor = rope.Number("high_freq_factor", {}, 1e-6, 1e6);
  if (scaling.low_freq_factor >= scaling.high_freq_factor) {
    throw Error("{}: low_freq_factor {} is not below high_freq_factor {}",
                rope.origin(), scaling.low_freq_factor,
                scaling.high_freq_factor);
  }
  scaling.original_max_position_embeddings =
      OriginalPositions(rope, fields, config);
  return scaling;
}

// The dictionary with the RoPE settings; rope_scaling wins when both are there.
const json* FindRope(const Fields& fields, std::string_view* key) {
  for (const std::string_view name : {"rope_scaling", "rope_parameters"}) {
    *key = name;
    const json* value = fields.Find(name);
    if (value == nullptr) continue;
    if (!value->is_object()) {
      throw fields.Unexpected(name, *value, "an object or null");
    }
    if (!value->empty()) return value;
  }
  return nullptr;
}

std::vector<double> ParseFactors(const Fields& rope, std::string_view key,
                                 int64_t count) {
  const json* value = rope.Find(key);
  if (value == nullptr) throw Error("{}: no \"{}\"", rope.origin(), key);
  std::vector<double> factors;
  for (const json& factor :
       Array(rope, key, *value, static_cast<size_t>(count))) {
    if (!factor.is_number() || !(factor.get<double>() >= 1e-6) ||
        !(factor.get<double>() <= 1e6)) {
      throw rope.Unexpected(key, factor, "a number from 1e-6 to 1e6");
    }
    factors.push_back(factor.get<double>());
  }
  return factors;
}

// _compute_longrope_parameters of transformers' modeling_rope_utils. Phi3Config
// has a top-level original_max_position_embeddings of its own, which wins over
// the one in the dictionary even where the file names none.
void ParseLongRope(const Fields& rope, const Fields& fields,
                   const Family& family, ModelConfig* result) {
  LongRopeScaling& scaling = result->long_rope.emplace();
  const int64_t count = result->rotary_dim / 2;
  scaling.short_factor = ParseFactors(rope, "short_factor", count);
  scaling.long_factor = ParseFactors(rope, "long_factor", count);
  const int64_t original = fields.Size("original_max_position_embeddings",
                                       family.original_max_position_embeddings,
                                       kMaxPositions, /*min=*/2);
  scaling.original_max_position_embeddings = original;
  const double ratio = static_cast<double>(result->max_position_embeddings) /
                       static_cast<double>(original);
  const double factor = rope.Number("factor", ratio, 1e-9, 1e9);
  const double suggested =
      factor <= 1 ? 1
                  : std::sqrt(1 + std::log(factor) /
                                      std::log(static_cast<double>(original)));
  result->rope_attention_factor =
      rope.Number("attention_factor", suggested, 1e-6, 1e6);
}

// _compute_yarn_parameters of transformers' modeling_rope_utils.
void ParseYarn(const Fields& rope, const Fields& fields, ModelConfig* result) {
  YarnRopeScaling& scaling = result->yarn_rope.emplace();
  scaling.original_max_position_embeddings =
      OriginalPositions(rope, fields, *result);
  // null, not absence, means the ratio (DeepSeek-V3's files).
  scaling.factor =
      rope.IsNull("factor")
          ? static_cast<double>(result->max_position_embeddings) /
                static_cast<double>(scaling.original_max_position_embeddings)
          : rope.Number("factor", {}, 1, 1e6);
  scaling.beta_fast = rope.Number("beta_fast", 32, 1e-6, 1e6);
  scaling.beta_slow = rope.Number("beta_slow", 1, 1e-6, 1e6);
  scaling.truncate = rope.Flag("truncate", true);
  const double scale = rope.Number("mscale", 0, 0, 1e3);
  const double all = rope.Number("mscale_all_dim", 0, 0, 1e3);
  const auto suggest = [&](double times) {
    return scaling.factor <= 1 ? 1 : 0.1 * times * std::log(scaling.factor) + 1;
  };
  const double suggested =
      scale > 0 && all > 0 ? suggest(scale) / suggest(all) : suggest(1);
  result->rope_attention_factor =
      rope.Number("attention_factor", suggested, 1e-6, 1e6);
}

std::string TypeOf(const Fields& rope) {
  return rope.Text("rope_type", rope.Text("type", "default"));
}

void NoteIgnored(const Fields& fields, std::string_view key,
                 const Family& family, ModelConfig* result) {
  result->notes.push_back(
      fmt::format("{}: \"{}\" is {}: transformers ignores it for {}, and so "
                  "does this verification",
                  fields.origin(), key, Dump(*fields.Find(key)),
                  family.model_type));
}

void ParseRotaryDim(const Fields& fields, const Fields& rope,
                    const Family& family, ModelConfig* result) {
  constexpr std::string_view kKey = "partial_rotary_factor";
  const bool handled = std::ranges::count(family.handles, kKey) > 0;
  const double outer =
      handled ? fields.Number(kKey, family.partial_rotary_factor, 0, 1) : 1;
  double factor = rope.Number(kKey, outer, 0, 1);
  if (!handled && factor != 1) {
    // Each scaling of modeling_rope_utils reads it, no default RoPE of these.
    if (TypeOf(rope) != "default") {
      throw Error("{}: \"partial_rotary_factor\" other than 1 is not supported",
                  rope.origin());
    }
    NoteIgnored(rope, kKey, family, result);
    factor = 1;
  }
  result->rotary_dim =
      static_cast<int64_t>(static_cast<double>(result->head_dim) * factor);
  if (result->rotary_dim < 2 || result->rotary_dim % 2 != 0) {
    throw Error("{}: {} of {} elements of a head rotate; RoPE rotates pairs",
                rope.origin(), result->rotary_dim, result->head_dim);
  }
}

constexpr double kMinTheta = 1;
constexpr double kMaxTheta = 1e15;

void ParseRopeType(const Fields& rope, const Fields& fields,
                   const Family& family, ModelConfig* result) {
  std::string type = TypeOf(rope);
  constexpr std::string_view kSections = "mrope_section";
  if (rope.Find(kSections) != nullptr && type == "default") {
    NoteIgnored(rope, kSections, family, result);
  } else if (rope.Find(kSections) != nullptr) {
    type += " with mrope_section";
  }
  if (type == "default") return;
  // Ignored with default RoPE; whether each scaling reads it is not known.
  constexpr std::string_view kPartial = "partial_rotary_factor";
  if (const json* partial = fields.Find(kPartial);
      partial != nullptr && *partial != 1.0 &&
      std::ranges::count(family.handles, kPartial) == 0) {
    throw fields.Unexpected(kPartial, *partial, "1.0 with rope_type " + type);
  }
  if (family.long_rope && type == "longrope") {
    ParseLongRope(rope, fields, family, result);
  } else if (!family.long_rope && type == "llama3") {
    result->llama3_rope = ParseLlama3Rope(rope, fields, *result);
  } else if (!family.long_rope && type == "yarn") {
    ParseYarn(rope, fields, result);
  } else if (!family.long_rope && type == "linear") {
    result->rope_linear_factor = rope.Number("factor", {}, 1e-6, 1e6);
  } else if (!family.long_rope && type == "dynamic") {
    rope.Number("factor", {}, 1e-6, 1e6);  // matters beyond the length only
    result->dynamic_rope = true;
  } else {
    throw Error(
        "{}: rope_type {} is not supported; supported: default, {}",
        rope.origin(), Dump(json(type)),
        family.long_rope ? "longrope" : "llama3, linear, yarn, dynamic");
  }
}

// One RoPE for all layers.
void ParseRope(const Fields& fields, const Family& family,
               ModelConfig* result) {
  static const json kNone = json::object();
  std::string_view key;
  const json* object = FindRope(fields, &key);
  result->rope_theta =
      fields.Number("rope_theta", family.rope_theta, kMinTheta, kMaxTheta);
  const Fields rope(object ? *object : kNone,
                    object ? fmt::format("{}: \"{}\"", fields.origin(), key)
                           : fields.origin());
  result->rope_theta =
      rope.Number("rope_theta", result->rope_theta, kMinTheta, kMaxTheta);
  if (object != nullptr) {
    for (const auto& [name, value] : object->items()) {
      if (!value.is_object()) continue;
      throw Error("{}: RoPE of its own for {} is not supported", rope.origin(),
                  Dump(json(name)));
    }
  }
  ParseRotaryDim(fields, rope, family, result);
  ParseRopeType(rope, fields, family, result);
}

// rope_parameters of one kind of layer, or an empty object.
json RopeOf(const Fields& fields, std::string_view layers) {
  constexpr std::string_view kKey = "rope_parameters";
  const json* all = fields.Find(kKey);
  if (all == nullptr) return json::object();
  if (!all->is_object()) {
    throw fields.Unexpected(kKey, *all, "an object or null");
  }
  for (const auto& [name, value] : all->items()) {
    if (value.is_null()) continue;
    if ((name != "full_attention" && name != "sliding_attention") ||
        !value.is_object()) {
      throw fields.Unexpected(
          kKey, *all, "objects \"full_attention\" and \"sliding_attention\"");
    }
  }
  const auto found = all->find(layers);
  return found == all->end() || found->is_null() ? json::object() : *found;
}

// One RoPE for layers with a window and one for the others, as
// Gemma3TextConfig.convert_rope_params_to_dict reads them: rope_scaling is of
// the latter only.
void ParseTwoRopes(const Fields& fields, const Family& family,
                   ModelConfig* result) {
  json full = RopeOf(fields, "full_attention");
  if (const json* scaling = fields.Find("rope_scaling")) {
    if (!scaling->is_object()) {
      throw fields.Unexpected("rope_scaling", *scaling, "an object or null");
    }
    full.update(*scaling);
  }
  const json sliding = RopeOf(fields, "sliding_attention");
  const Fields rope(full, fields.origin() + ": RoPE of full_attention");
  const Fields local(sliding, fields.origin() + ": RoPE of sliding_attention");
  result->rope_theta = rope.Number(
      "rope_theta",
      fields.Number("rope_theta", family.rope_theta, kMinTheta, kMaxTheta),
      kMinTheta, kMaxTheta);
  result->local_rope_theta =
      local.Number("rope_theta",
                   fields.Number("rope_local_base_freq",
                                 family.local_rope_theta, kMinTheta, kMaxTheta),
                   kMinTheta, kMaxTheta);
  // transformers has set rope_type before it meets the older key.
  for (const Fields& each : {rope, local}) {
    if (const json* type = each.Find("type");
        type != nullptr && *type != each.Text("rope_type", "default")) {
      throw each.Unexpected("type", *type,
                            "the key \"rope_type\" in its place");
    }
  }
  ParseRotaryDim(fields, local, family, result);
  ParseRotaryDim(fields, rope, family, result);
  ParseRopeType(rope, fields, family, result);
  if (local.Text("rope_type", "default") != "default") {
    throw Error("{}: a rope_type other than default is not supported",
                local.origin());
  }
}

void ParseHeads(const Fields& fields, const Family& family,
                ModelConfig* result) {
  const auto usual = [](int64_t value) {
    return value > 0 ? std::optional<int64_t>(value) : std::nullopt;
  };
  result->num_heads =
      fields.Size("num_attention_heads", usual(family.num_heads));
  result->num_kv_heads =
      fields.Size(family.kv_heads_key,
                  family.num_kv_heads > 0 && !fields.IsNull(family.kv_heads_key)
                      ? family.num_kv_heads
                      : result->num_heads);
  if (result->num_heads % result->num_kv_heads != 0) {
    throw Error("{}: num_attention_heads {} is no multiple of {} {}",
                fields.origin(), result->num_heads, family.kv_heads_key,
                result->num_kv_heads);
  }
  const bool divides = result->hidden_size % result->num_heads == 0;
  const bool given = fields.Find("head_dim") != nullptr || family.head_dim > 0;
  if (!divides && !given) {
    throw Error("{}: hidden_size {} is no multiple of num_attention_heads {}",
                fields.origin(), result->hidden_size, result->num_heads);
  }
  result->head_dim = fields.Size(
      "head_dim",
      usual(family.head_dim).value_or(result->hidden_size / result->num_heads));
  if (result->head_dim % 2 != 0) {
    throw Error("{}: head_dim {} is odd; RoPE rotates pairs", fields.origin(),
                result->head_dim);
  }
}

void ParseBiases(const Fields& fields, const Family& family,
                 ModelConfig* result) {
  const bool all = family.attention_bias == Biases::kAll ||
                   (family.attention_bias == Biases::kFromConfig &&
                    fields.Flag("attention_bias", false));
  result->qkv_bias = all || family.attention_bias == Biases::kQkv;
  result->o_bias = all;
  result->mlp_bias = family.mlp_bias && fields.Flag("mlp_bias", false);
}

// A soft cap, of which null means none.
std::optional<double> ParseSoftcap(const Fields& fields, const Family& family,
                                   std::string_view key, double absent) {
  if (std::ranges::count(family.handles, key) == 0) return {};
  if (fields.IsNull(key)) return {};
  if (fields.Find(key) == nullptr && absent == 0) return {};
  return fields.Number(key, absent, 1e-3, 1e6);
}

void ParseScales(const Fields& fields, const Family& family,
                 ModelConfig* result) {
  double scalar = static_cast<double>(result->head_dim);
  if (family.query_pre_attn_scalar > 0) {
    scalar = fields.Number("query_pre_attn_scalar",
                           family.query_pre_attn_scalar, 1e-3, 1e9);
  }
  result->attention_scale = 1 / std::sqrt(scalar);
  result->attention_softcap = ParseSoftcap(
      fields, family, "attn_logit_softcapping", family.attention_softcap);
  result->logit_softcap = ParseSoftcap(
      fields, family, "final_logit_softcapping", family.logit_softcap);
  if (family.scales_embedding) {
    result->embedding_scale =
        std::sqrt(static_cast<double>(result->hidden_size));
  }
}

// Phi-2: LayerNorm, attention and MLP both of its output, an MLP without gate,
// biases everywhere.
void SetPhiBlock(ModelConfig* result) {
  result->naming = Naming::kPhi;
  result->layer_norm = true;
  result->parallel_block = true;
  result->mlp_norm = false;
  result->gated_mlp = false;
  result->mlp_bias = true;
  result->head_bias = true;
}

// FalconAttention and FalconDecoderLayer. Combinations that they can be made
// with but fail in their forward pass are errors.
void ParseFalconBlock(const Fields& fields, ModelConfig* result) {
  const bool newer = fields.Flag("new_decoder_architecture", false);
  const bool parallel = fields.Flag("parallel_attn", true);
  const int64_t norms =
      fields.Size("num_ln_in_parallel_attn", newer ? 2 : 1, /*max=*/2);
  if (newer && !parallel) {
    throw Error(
        "{}: \"new_decoder_architecture\" without \"parallel_attn\" is not "
        "supported",
        fields.origin());
  }
  if (!newer && parallel && norms == 2) {
    throw Error(
        "{}: \"num_ln_in_parallel_attn\" 2 without "
        "\"new_decoder_architecture\" is not supported",
        fields.origin());
  }
  if (!newer && fields.Flag("multi_query", true)) {
    result->num_kv_heads = 1;
  } else if (!newer && result->num_kv_heads != result->num_heads) {
    throw Error(
        "{}: \"num_kv_heads\" is {}, expected num_attention_heads {} without "
        "\"multi_query\" and \"new_decoder_architecture\"",
        fields.origin(), result->num_kv_heads, result->num_heads);
  }
  const bool bias = fields.Flag("bias", false);
  result->qkv_bias = bias;
  result->o_bias = bias;
  result->mlp_bias = bias;
  result->naming = Naming::kFalcon;
  result->grouped_qkv = true;
  result->layer_norm = true;
  result->parallel_block = parallel;
  result->mlp_norm = !parallel || (newer && norms == 2);
  result->gated_mlp = false;
  result->alibi = fields.Flag("alibi", false);
}

// What is the same in all layers.
void FillLayers(ModelConfig* result) {
  for (LayerConfig& layer : result->layers) {
    layer.num_heads = result->num_heads;
    layer.num_kv_heads = result->num_kv_heads;
    layer.intermediate_size = result->intermediate_size;
    if (result->alibi) layer.rope = false;
  }
}

ModelConfig ParseDecoder(const Fields& fields, const Family& family) {
  ModelConfig result;
  result.notes = CheckUnhandled(fields, family);
  result.model_type = family.model_type;
  result.vocab_size =
      fields.Size("vocab_size", family.vocab_size > 0
                                    ? std::optional<int64_t>(family.vocab_size)
                                    : std::nullopt);
  result.hidden_size = fields.Size("hidden_size");
  result.intermediate_size = fields.Size(
      family.intermediate_key,
      family.intermediate_factor > 0
          ? std::optional(family.intermediate_factor * result.hidden_size)
          : std::nullopt);
  result.num_layers = fields.Size("num_hidden_layers", {}, kMaxLayers);
  result.max_position_embeddings = fields.Size(
      "max_position_embeddings", family.max_position_embeddings, kMaxPositions);
  ParseHeads(fields, family, &result);
  // A float32 epsilon below 1e-30 would be as good as none.
  result.rms_norm_eps =
      fields.Number(family.norm_eps_key, family.rms_norm_eps, 1e-30, 0.1);
  result.tie_word_embeddings =
      fields.Flag("tie_word_embeddings", family.tie_word_embeddings);
  result.norm_adds_one = family.norm_adds_one;
  result.qk_norm = family.qk_norm;
  result.sandwich_norms = family.sandwich_norms;
  result.fused_projections = family.fused_projections;
  ParseActivation(fields, family, &result);
  ParseBiases(fields, family, &result);
  if (family.phi_block) SetPhiBlock(&result);
  if (family.falcon_block) ParseFalconBlock(fields, &result);
  ParseScales(fields, family, &result);
  ParseLayers(fields, family, &result);
  FillLayers(&result);
  if (family.local_rope_theta > 0) {
    ParseTwoRopes(fields, family, &result);
  } else {
    ParseRope(fields, family, &result);
  }
  return result;
}

// The text model of a multimodal one. Whether its head is tied, the outer
// config says.
ModelConfig ParseMultimodal(const Fields& fields) {
  const Family& family = *FindFamily(kMultimodalText);
  std::vector<std::string> notes = CheckUnhandled(fields, family);
  constexpr std::string_view kKey = "text_config";
  const json* text = fields.Find(kKey);
  if (text == nullptr) throw Error("{}: no \"{}\"", fields.origin(), kKey);
  if (!text->is_object()) throw fields.Unexpected(kKey, *text, "an object");
  const Fields inner(*text, fmt::format("{}: \"{}\"", fields.origin(), kKey));
  const std::string model_type = inner.Text("model_type", kMultimodalText);
  if (model_type != kMultimodalText) throw NotSupported(inner, model_type);
  // Gemma3ForConditionalGeneration has no such cap.
  constexpr std::string_view kCap = "final_logit_softcapping";
  if (const json* cap = inner.Find(kCap)) {
    throw inner.Unexpected(kCap, *cap, "null in a multimodal model");
  }
  ModelConfig result = ParseDecoder(inner, family);
  result.notes.insert(result.notes.begin(), notes.begin(), notes.end());
  result.model_type = kMultimodal;
  result.multimodal = true;
  result.tie_word_embeddings = fields.Flag("tie_word_embeddings", true);
  return result;
}

// One size for each layer.
std::vector<int64_t> SizesOfLayers(const Fields& fields, std::string_view key,
                                   int64_t count) {
  const json* value = fields.Find(key);
  if (value == nullptr) throw Error("{}: no \"{}\"", fields.origin(), key);
  std::vector<int64_t> sizes;
  for (const json& size :
       Array(fields, key, *value, static_cast<size_t>(count))) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() == 0 ||
        size.get<uint64_t>() > static_cast<uint64_t>(kMaxSize)) {
      throw fields.Unexpected(key, size,
                              fmt::format("integers from 1 to {}", kMaxSize));
    }
    sizes.push_back(size.get<int64_t>());
  }
  return sizes;
}

// make_divisible of Apple's modeling_openelm.py, published with the weights.
int64_t MakeDivisible(double size, int64_t divisor) {
  const auto half = static_cast<double>(divisor) / 2;
  const int64_t floor = static_cast<int64_t>(size + half) / divisor * divisor;
  const int64_t made = std::max(divisor, floor);
  return static_cast<double>(made) < 0.9 * size ? made + divisor : made;
}

void ParseOpenElmLayers(const Fields& fields, ModelConfig* result) {
  const int64_t count = result->num_layers;
  const auto heads = SizesOfLayers(fields, "num_query_heads", count);
  const auto kv_heads = SizesOfLayers(fields, "num_kv_heads", count);
  const int64_t divisor = fields.Size("ffn_dim_divisor", 256);
  constexpr std::string_view kMultipliers = "ffn_multipliers";
  const json* found = fields.Find(kMultipliers);
  if (found == nullptr) {
    throw Error("{}: no \"{}\"", fields.origin(), kMultipliers);
  }
  const json& multipliers =
      Array(fields, kMultipliers, *found, static_cast<size_t>(count));
  for (size_t i = 0; i < heads.size(); ++i) {
    const json& multiplier = multipliers[i];
    if (!multiplier.is_number() || !(multiplier.get<double>() >= 1e-3) ||
        !(multiplier.get<double>() <= 1e3)) {
      throw fields.Unexpected(kMultipliers, multiplier,
                              "numbers from 0.001 to 1000");
    }
    if (heads[i] % kv_heads[i] != 0) {
      throw Error(
          "{}: num_query_heads {} of layer {} is no multiple of num_kv_heads "
          "{}",
          fields.origin(), heads[i], i, kv_heads[i]);
    }
    LayerConfig& layer = result->layers.emplace_back();
    layer.num_heads = heads[i];
    layer.num_kv_heads = kv_heads[i];
    layer.intermediate_size = MakeDivisible(
        multiplier.get<double>() * static_cast<double>(result->hidden_size),
        divisor);
    result->num_heads = std::max(result->num_heads, layer.num_heads);
    result->num_kv_heads = std::max(result->num_kv_heads, layer.num_kv_heads);
    result->intermediate_size =
        std::max(result->intermediate_size, layer.intermediate_size);
  }
}

// Has keys and a block of its own, in Apple's modeling_openelm.py; transformers
// has no such class.
ModelConfig ParseOpenElm(const Fields& fields) {
  CheckUnhandled(fields, {.model_type = kOpenElm});
  ModelConfig result;
  result.model_type = kOpenElm;
  result.naming = Naming::kOpenElm;
  result.vocab_size = fields.Size("vocab_size");
  result.hidden_size = fields.Size("model_dim");
  result.head_dim = fields.Size("head_dim");
  if (result.head_dim % 2 != 0) {
    throw Error("{}: head_dim {} is odd; RoPE rotates pairs", fields.origin(),
                result.head_dim);
  }
  result.rotary_dim = result.head_dim;
  result.num_layers = fields.Size("num_transformer_layers", {}, kMaxLayers);
  result.max_position_embeddings =
      fields.Size("max_context_length", 2048, kMaxPositions);
  result.rms_norm_eps = 1e-6;  // no key of the config
  result.rope_theta =
      fields.Number("rope_freq_constant", 10000, kMinTheta, kMaxTheta);
  result.attention_scale = 1 / std::sqrt(static_cast<double>(result.head_dim));
  result.qk_norm = fields.Flag("normalize_qk_projections", false);
  result.tie_word_embeddings = fields.Flag("share_input_output_layers", false);
  result.fused_projections = true;
  if (!fields.Flag("ffn_with_glu", true)) {
    throw Error("{}: \"ffn_with_glu\" false is not supported", fields.origin());
  }
  constexpr std::string_view kActivation = "activation_fn_name";
  result.activation =
      FindActivation(fields, kActivation, fields.Text(kActivation, "swish"));
  constexpr std::string_view kNorm = "normalization_layer_name";
  if (const std::string norm = fields.Text(kNorm, "rms_norm");
      norm != "rms_norm") {
    throw fields.Unexpected(kNorm, json(norm), "\"rms_norm\"");
  }
  ParseOpenElmLayers(fields, &result);
  return result;
}

}  // namespace

std::optional<int64_t> SlidingWindowOf(const ModelConfig& config) {
  for (const LayerConfig& layer : config.layers) {
    if (layer.window > 0) return layer.window;
  }
  return std::nullopt;
}

ModelConfig ParseModelConfig(const json& config, const std::string& origin) {
  const Fields fields(config, origin);
  const std::string model_type = fields.Text("model_type", "");
  if (model_type == kMultimodal) return ParseMultimodal(fields);
  if (model_type == kOpenElm) return ParseOpenElm(fields);
  const Family* family = FindFamily(model_type);
  if (family == nullptr) throw NotSupported(fields, model_type);
  return ParseDecoder(fields, *family);
}

}  // namespace verify_tflite
