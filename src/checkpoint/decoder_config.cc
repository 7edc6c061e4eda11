// SPDX-License-Identifier: Apache-2.0
// The settings that most families share.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {

using nlohmann::json;

Activation FindActivation(const ConfigFields& fields, std::string_view key,
                          std::string_view name) {
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    return Activation::kGeluTanh;
  }
  if (name == "gelu") return Activation::kGelu;
  if (name == "relu2") return Activation::kRelu2;
  throw Error(
      "{}: \"{}\" is {}, supported: silu, gelu, gelu_pytorch_tanh, relu2",
      fields.origin(), key, Dump(json(name)));
}

namespace {

// Gemma files carry both keys, one of which transformers does not read: they
// must agree.
void ParseActivation(const ConfigFields& fields, const Family& family,
                     ModelConfig* result) {
  const auto find = [&](std::string_view key) {
    std::string name = fields.Text(key, family.activation);
    if (family.gelu_is_tanh && name == "gelu") name = "gelu_pytorch_tanh";
    if (name == "xielu" && family.activation == name) return Activation::kXielu;
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

void ParseRopeLayers(const ConfigFields& fields, ModelConfig* result) {
  constexpr std::string_view kKey = "no_rope_layers";
  const json* value = fields.Find(kKey);
  const int64_t interval = fields.Size("no_rope_layer_interval", 4);
  if (value != nullptr) {
    fields.Array(kKey, *value, result->layers.size(), /*or_more=*/true);
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
std::vector<bool> SlidingByRule(const ConfigFields& fields,
                                const Family& family, const ModelConfig& config,
                                bool window) {
  int64_t from = 0;
  int64_t pattern = family.window_pattern;
  if (family.windows == Windows::kUpper) {
    from = fields.Size("max_window_layers", family.max_window_layers, kMaxSize,
                       /*min=*/0);
  }
  if (family.Handles("sliding_window_pattern") &&
      fields.Find("layer_types") == nullptr) {
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
      case Windows::kEach:
        sliding[i] = window;
        break;
    }
  }
  return sliding;
}

std::vector<bool> ReadLayerTypes(const ConfigFields& fields, const json& types,
                                 size_t count) {
  constexpr std::string_view kKey = "layer_types";
  std::vector<bool> sliding;
  for (const json& type : fields.Array(kKey, types, count)) {
    sliding.push_back(type == "sliding_attention");
    if (sliding.back() || type == "full_attention") continue;
    throw Error(
        "{}: \"layer_types\" has {}, supported: \"full_attention\", "
        "\"sliding_attention\"",
        fields.origin(), Dump(type));
  }
  return sliding;
}

int64_t ParseWindow(const ConfigFields& fields, const Family& family) {
  constexpr std::string_view kKey = "sliding_window";
  const bool switched = family.windows == Windows::kUpper ||
                        family.windows == Windows::kWithoutRope ||
                        family.window_switch;
  if (family.windows == Windows::kNone || fields.IsNull(kKey)) return 0;
  if (switched && !fields.Flag("use_sliding_window", false)) return 0;
  return fields.Size(kKey, family.sliding_window, kMaxPositions);
}

void ParseLayers(const ConfigFields& fields, const Family& family,
                 ModelConfig* result) {
  result->layers.resize(result->num_layers);
  if (family.Handles("no_rope_layers")) ParseRopeLayers(fields, result);
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
    if (family.rope_with_window_alone && window > 0) {
      result->layers[i].rope = sliding[i];
    }
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

void ParseHeads(const ConfigFields& fields, const Family& family,
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

void ParseBiases(const ConfigFields& fields, const Family& family,
                 ModelConfig* result) {
  const bool all = family.attention_bias == Biases::kAll ||
                   (family.attention_bias == Biases::kFromConfig &&
                    fields.Flag("attention_bias", false));
  result->qkv_bias = all || family.attention_bias == Biases::kQkv;
  result->o_bias = all;
  result->mlp_bias =
      family.Handles("mlp_bias") && fields.Flag("mlp_bias", false);
}

// A soft cap, of which null means none.
std::optional<double> ParseSoftcap(const ConfigFields& fields,
                                   const Family& family, std::string_view key,
                                   double absent) {
  if (!family.Handles(key)) return {};
  if (fields.IsNull(key)) return {};
  if (fields.Find(key) == nullptr && absent == 0) return {};
  return fields.Number(key, absent, 1e-3, 1e6);
}

void ParseScales(const ConfigFields& fields, const Family& family,
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
}

// What is the same in all layers.
void FillLayers(ModelConfig* result) {
  for (LayerConfig& layer : result->layers) {
    layer.num_heads = result->num_heads;
    layer.num_kv_heads = result->num_kv_heads;
    layer.head_dim = result->head_dim;
    layer.intermediate_size = result->intermediate_size;
    if (result->alibi) layer.rope = false;
  }
}

// Notes the parts of a multimodal model that are not verified.
void NoteTowers(const ConfigFields& fields, ModelConfig* config) {
  std::vector<std::string> towers;
  for (const auto& [key, value] : fields.object().items()) {
    if (value.is_object() && key != "text_config" && key.ends_with("_config")) {
      towers.push_back(Dump(json(key)));
    }
  }
  if (towers.empty()) return;
  config->notes.push_back(fmt::format(
      "{}: the text model alone is verified; what {} describe{} is not looked "
      "at",
      fields.origin(), fmt::join(towers, " and "),
      towers.size() == 1 ? "s" : ""));
}

// What the text model's own class does to its logits.
void IgnoreHead(const ConfigFields& fields, const Family& outer,
                ModelConfig* config) {
  if (config->logit_divisor != 1 || config->logit_softcap) {
    config->notes.push_back(
        fmt::format("{}: logits are scaled or capped by the text model's own "
                    "class; that of "
                    "{} does not, and neither does this verification",
                    fields.origin(), outer.model_type));
  }
  config->logit_divisor = 1;
  config->logit_softcap.reset();
}

}  // namespace

ModelConfig ParseDecoder(const ConfigFields& fields, const Family& family) {
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
  ParseActivation(fields, family, &result);
  ParseBiases(fields, family, &result);
  ParseScales(fields, family, &result);
  if (family.set_block != nullptr) family.set_block(fields, &result);
  ParseLayers(fields, family, &result);
  FillLayers(&result);
  if (family.set_layers != nullptr) family.set_layers(fields, &result);
  if (family.read_rope != nullptr) {
    family.read_rope(fields, &result);
  } else if (family.local_rope_theta > 0) {
    ParseTwoRopes(fields, family, &result);
  } else {
    ParseRope(fields, family, &result);
  }
  return result;
}

void ShareKeys(const ConfigFields& fields, int64_t shared,
               ModelConfig* config) {
  const int64_t first = config->num_layers - shared;
  for (int64_t i = first; i < config->num_layers; ++i) {
    LayerConfig& layer = config->layers[static_cast<size_t>(i)];
    for (int64_t j = 0; j < first; ++j) {
      const LayerConfig& other = config->layers[static_cast<size_t>(j)];
      if (other.local_rope == layer.local_rope) layer.kv_source = j;
    }
    if (layer.kv_source < 0) {
      throw fields.Unexpected("num_kv_shared_layers", shared,
                              "a layer of each kind that shares its keys");
    }
  }
}

ConfigFields TextConfigOf(const ConfigFields& fields, const Family& outer) {
  constexpr std::string_view kKey = "text_config";
  const json* config = fields.Find(kKey);
  if (config == nullptr && outer.flat) return fields;
  if (config == nullptr) throw Error("{}: no \"{}\"", fields.origin(), kKey);
  if (!config->is_object()) throw fields.Unexpected(kKey, *config, "an object");
  return ConfigFields(*config,
                      fmt::format("{}: \"{}\"", fields.origin(), kKey));
}

ModelConfig ParseTextModel(const ConfigFields& fields, const Family& outer) {
  const ConfigFields inner = TextConfigOf(fields, outer);
  const bool flat = fields.Find("text_config") == nullptr;
  const std::string type =
      flat ? std::string(outer.text) : inner.Text("model_type", outer.text);
  const std::optional<Family> text = TextFamily(outer, type);
  if (!text) throw NotSupported(inner, type);
  std::vector<std::string> notes = CheckUnhandled(fields, *text);
  ModelConfig result = text->parse(inner, *text);
  if (flat) notes.clear();  // they are its own
  result.notes.insert(result.notes.begin(), notes.begin(), notes.end());
  result.text_type = text->model_type;
  result.model_type = outer.model_type;
  const bool tied = outer.tied_by_text && result.tie_word_embeddings;
  result.tie_word_embeddings =
      fields.Flag("tie_word_embeddings", outer.tie_word_embeddings) || tied;
  if (outer.plain_head) IgnoreHead(inner, outer, &result);
  NoteTowers(fields, &result);
  return result;
}

ModelConfig ParseRenamed(const ConfigFields& fields, const Family& family) {
  json object = fields.object();
  for (const auto& [alias, key] : family.aliases) {
    const json* value = fields.Find(alias);
    if (value == nullptr) continue;
    const json* known = fields.Find(key);
    if (known != nullptr && *known != *value) {
      throw Error("{}: \"{}\" and \"{}\" differ", fields.origin(), alias, key);
    }
    object[std::string(key)] = *value;
  }
  return ParseDecoder(ConfigFields(object, fields.origin()), family);
}

}  // namespace verify_tflite
