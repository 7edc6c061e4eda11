#include "checkpoint/model_config.h"

#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

// No model comes near; products of two sizes stay far inside int64.
constexpr int64_t kMaxSize = int64_t{1} << 24;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

// What a config class of transformers 5.24 assumes where config.json is
// silent. Sizes have no defaults here: save_pretrained always writes them.
struct Family {
  std::string_view model_type;
  double rms_norm_eps;
  double rope_theta;
  int64_t max_position_embeddings;
  bool tie_word_embeddings;
  bool attention_bias;
  bool mlp_bias;
};

constexpr Family kFamilies[] = {
    {.model_type = "llama",
     .rms_norm_eps = 1e-6,
     .rope_theta = 10000,
     .max_position_embeddings = 2048,
     .tie_word_embeddings = false,
     .attention_bias = false,
     .mlp_bias = false},
};

// Settings that change the computation of some model and have no counterpart in
// ModelConfig. Each may be absent, null or the value that switches it off.
struct Unhandled {
  std::string_view key;
  std::string_view off;  // as JSON
};

constexpr Unhandled kUnhandled[] = {
    {"quantization_config", "null"},
    {"compression_config", "null"},
    {"partial_rotary_factor", "1.0"},
    {"sliding_window", "null"},
    {"attention_chunk_size", "null"},
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
    {"is_encoder_decoder", "false"},
    {"add_cross_attention", "false"},
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

  int64_t Size(std::string_view key, std::optional<int64_t> absent = {},
               int64_t max = kMaxSize) const {
    const json* value = Find(key);
    if (value == nullptr && absent) return *absent;
    if (value == nullptr) throw Error("{}: no \"{}\"", origin_, key);
    if (!value->is_number_unsigned() || value->get<uint64_t>() < 1 ||
        value->get<uint64_t>() > static_cast<uint64_t>(max)) {
      throw Unexpected(key, *value,
                       fmt::format("an integer from 1 to {}", max));
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

const Family& FindFamily(const Fields& fields) {
  const std::string model_type = fields.Text("model_type", "");
  std::vector<std::string_view> supported;
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return family;
    supported.push_back(family.model_type);
  }
  throw Error("{}: model_type {} is not supported; supported: {}",
              fields.origin(), Dump(json(model_type)),
              fmt::join(supported, ", "));
}

void RefuseUnhandled(const Fields& fields) {
  for (const Unhandled& row : kUnhandled) {
    const json* value = fields.Find(row.key);
    if (value == nullptr || *value == json::parse(row.off)) continue;
    // Qwen-style configs name a window and say that it is not used.
    if (row.key == "sliding_window" &&
        !fields.Flag("use_sliding_window", true)) {
      continue;
    }
    throw Error(
        "{}: \"{}\" is {}; the reference does not compute this, it expects {}",
        fields.origin(), row.key, Dump(*value), row.off);
  }
  const std::string act = fields.Text("hidden_act", "silu");
  if (act != "silu" && act != "swish") {
    throw Error("{}: \"hidden_act\" is {}, supported: silu", fields.origin(),
                Dump(json(act)));
  }
  if (const json* types = fields.Find("layer_types")) {
    for (const json& type : *types) {
      if (type == "full_attention") continue;
      throw Error("{}: \"layer_types\" has {}, supported: \"full_attention\"",
                  fields.origin(), Dump(type));
    }
  }
}

Llama3RopeScaling ParseLlama3Rope(const Fields& rope, const Fields& fields,
                                  int64_t max_position_embeddings) {
  Llama3RopeScaling scaling;
  scaling.factor = rope.Number("factor", {}, 1, 1e6);
  scaling.low_freq_factor = rope.Number("low_freq_factor", {}, 1e-6, 1e6);
  scaling.high_freq_factor = rope.Number("high_freq_factor", {}, 1e-6, 1e6);
  if (scaling.low_freq_factor >= scaling.high_freq_factor) {
    throw Error("{}: low_freq_factor {} is not below high_freq_factor {}",
                rope.origin(), scaling.low_freq_factor,
                scaling.high_freq_factor);
  }
  // transformers lets a top-level value win over the one in the dictionary.
  constexpr std::string_view kOriginal = "original_max_position_embeddings";
  const Fields& source = fields.Find(kOriginal) ? fields : rope;
  scaling.original_max_position_embeddings =
      source.Size(kOriginal, max_position_embeddings, kMaxPositions);
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

void ParseRope(const Fields& fields, const Family& family,
               ModelConfig* result) {
  constexpr double kMinTheta = 1;
  constexpr double kMaxTheta = 1e15;
  std::string_view key;
  const json* object = FindRope(fields, &key);
  result->rope_theta =
      fields.Number("rope_theta", family.rope_theta, kMinTheta, kMaxTheta);
  if (object == nullptr) return;
  const Fields rope(*object, fmt::format("{}: \"{}\"", fields.origin(), key));
  result->rope_theta =
      rope.Number("rope_theta", result->rope_theta, kMinTheta, kMaxTheta);
  for (const auto& [name, value] : object->items()) {
    if (value.is_object()) {
      throw Error("{}: RoPE of its own for {} is not supported", rope.origin(),
                  Dump(json(name)));
    }
  }
  if (rope.Number("partial_rotary_factor", 1.0, 0, 1) != 1) {
    throw Error("{}: \"partial_rotary_factor\" other than 1 is not supported",
                rope.origin());
  }
  const std::string type = rope.Text("rope_type", rope.Text("type", "default"));
  if (type == "llama3") {
    result->llama3_rope =
        ParseLlama3Rope(rope, fields, result->max_position_embeddings);
  } else if (type != "default" || rope.Find("mrope_section") != nullptr) {
    throw Error("{}: rope_type {} is not supported; supported: default, llama3",
                rope.origin(), Dump(json(type)));
  }
}

void ParseHeads(const Fields& fields, ModelConfig* result) {
  result->num_heads = fields.Size("num_attention_heads");
  result->num_kv_heads = fields.Size("num_key_value_heads", result->num_heads);
  if (result->num_heads % result->num_kv_heads != 0) {
    throw Error(
        "{}: num_attention_heads {} is no multiple of num_key_value_heads {}",
        fields.origin(), result->num_heads, result->num_kv_heads);
  }
  const bool divides = result->hidden_size % result->num_heads == 0;
  if (!divides && fields.Find("head_dim") == nullptr) {
    throw Error("{}: hidden_size {} is no multiple of num_attention_heads {}",
                fields.origin(), result->hidden_size, result->num_heads);
  }
  result->head_dim =
      fields.Size("head_dim", result->hidden_size / result->num_heads);
  if (result->head_dim % 2 != 0) {
    throw Error("{}: head_dim {} is odd; RoPE rotates pairs", fields.origin(),
                result->head_dim);
  }
}

}  // namespace

ModelConfig ParseModelConfig(const json& config, const std::string& origin) {
  const Fields fields(config, origin);
  const Family& family = FindFamily(fields);
  RefuseUnhandled(fields);
  ModelConfig result;
  result.model_type = family.model_type;
  result.vocab_size = fields.Size("vocab_size");
  result.hidden_size = fields.Size("hidden_size");
  result.intermediate_size = fields.Size("intermediate_size");
  result.num_layers = fields.Size("num_hidden_layers");
  result.max_position_embeddings = fields.Size(
      "max_position_embeddings", family.max_position_embeddings, kMaxPositions);
  ParseHeads(fields, &result);
  // A float32 epsilon below 1e-30 would be as good as none.
  result.rms_norm_eps =
      fields.Number("rms_norm_eps", family.rms_norm_eps, 1e-30, 0.1);
  result.tie_word_embeddings =
      fields.Flag("tie_word_embeddings", family.tie_word_embeddings);
  result.attention_bias = fields.Flag("attention_bias", family.attention_bias);
  result.mlp_bias = fields.Flag("mlp_bias", family.mlp_bias);
  ParseRope(fields, family, &result);
  return result;
}

}  // namespace verify_tflite
