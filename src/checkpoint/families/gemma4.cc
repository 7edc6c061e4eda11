// SPDX-License-Identifier: Apache-2.0
// Gemma 4: its text model by itself or inside a multimodal one.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

constexpr std::string_view kGemma4Text = "gemma4_text";
constexpr std::string_view kSliding = "sliding_attention";
constexpr std::string_view kFull = "full_attention";

void SetBlock(const ConfigFields& fields, ModelConfig* config) {
  config->embedding_scale = std::sqrt(static_cast<double>(config->hidden_size));
  config->attention_scale = 1;
  config->sandwich_norms = true;
  config->qk_norm = true;
  config->v_norm = true;
  config->layer_scalar = true;
  if (fields.Flag("enable_moe_block", false)) {
    throw fields.Unexpected("enable_moe_block", true, "false");
  }
  // Of text, "vision" makes no difference.
  constexpr std::string_view kBoth = "use_bidirectional_attention";
  if (const json* both = fields.Find(kBoth);
      both != nullptr && *both != "vision" && *both != false) {
    throw fields.Unexpected(kBoth, *both, "null or \"vision\"");
  }
  constexpr std::string_view kSize = "hidden_size_per_layer_input";
  if (!fields.IsNull(kSize)) {
    config->per_layer_size = fields.Size(kSize, 256, kMaxSize, /*min=*/0);
  }
  if (config->per_layer_size > 0) {
    config->per_layer_vocab_size =
        fields.Size("vocab_size_per_layer_input", 262144);
  }
}

// Of per_layer_config: the number of a layer.
size_t NumberOf(const ConfigFields& fields, std::string_view key,
                const json& all, const std::string& name, size_t count) {
  size_t layer = count;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data(), end, layer);
  if (error != std::errc() || rest != end || layer >= count) {
    throw fields.Unexpected(key, all, "settings by the number of a layer");
  }
  return layer;
}

// Newer files: settings of single layers.
void SetByLayer(const ConfigFields& fields, const json& all,
                ModelConfig* config) {
  constexpr std::string_view kKey = "per_layer_config";
  if (!all.is_object()) throw fields.Unexpected(kKey, all, "an object");
  for (const auto& [name, value] : all.items()) {
    LayerConfig& layer =
        config
            ->layers[NumberOf(fields, kKey, all, name, config->layers.size())];
    if (!value.is_object()) throw fields.Unexpected(kKey, all, "objects");
    const ConfigFields own(
        value, fmt::format("{}: \"{}\" {}", fields.origin(), kKey, name));
    for (const auto& [key, setting] : value.items()) {
      if (key == "head_dim" || key == "num_key_value_heads") continue;
      throw own.Unexpected(key, setting,
                           "head_dim and num_key_value_heads alone");
    }
    layer.head_dim = own.Size("head_dim", layer.head_dim);
    layer.num_kv_heads = own.Size("num_key_value_heads", layer.num_kv_heads);
  }
}

// Older files: settings of all layers without a window.
void SetFullLayers(const ConfigFields& fields, bool keys_are_values,
                   ModelConfig* config) {
  const int64_t head_dim = fields.Size("global_head_dim", 512);
  const int64_t kv_heads =
      fields.Size("num_global_key_value_heads", config->num_kv_heads);
  for (LayerConfig& layer : config->layers) {
    if (layer.local_rope) continue;
    layer.head_dim = head_dim;
    if (keys_are_values) layer.num_kv_heads = kv_heads;
  }
}

// Layers that share keys may have MLPs of twice the size.
void SetMlps(const ConfigFields& fields, ModelConfig* config) {
  if (!fields.Flag("use_double_wide_mlp", false)) return;
  for (LayerConfig& layer : config->layers) {
    if (layer.kv_source < 0) continue;
    layer.intermediate_size *= 2;
    config->intermediate_size =
        std::max(config->intermediate_size, layer.intermediate_size);
  }
}

void CheckHeads(const ConfigFields& fields, const ModelConfig& config) {
  std::optional<int64_t> sizes[2];  // of layers without and with a window
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    std::optional<int64_t>& size = sizes[layer.local_rope];
    if (!size) size = layer.head_dim;
    // transformers has one RoPE for all layers of a kind.
    if (*size != layer.head_dim || layer.head_dim % 2 != 0 ||
        layer.num_heads % layer.num_kv_heads != 0) {
      throw Error(
          "{}: layer {} has {} heads and {} KV heads of {}: the heads of all "
          "layers of a kind must have one even size, and KV heads divide them",
          fields.origin(), i, layer.num_heads, layer.num_kv_heads,
          layer.head_dim);
    }
  }
}

void SetLayers(const ConfigFields& fields, ModelConfig* config) {
  LayerConfig& last = config->layers.back();
  if (last.local_rope) {
    config->notes.push_back(fmt::format(
        "{}: the last layer has \"{}\": transformers makes it \"{}\", and so "
        "does this verification",
        fields.origin(), kSliding, kFull));
    last.local_rope = false;
    last.window = 0;
  }
  const bool keys_are_values = fields.Flag("attention_k_eq_v", false);
  constexpr std::string_view kByLayer = "per_layer_config";
  if (fields.IsNull(kByLayer)) {
    throw fields.Unexpected(kByLayer, nullptr, "an object");
  }
  if (const json* all = fields.Find(kByLayer)) {
    SetByLayer(fields, *all, config);
  } else {
    SetFullLayers(fields, keys_are_values, config);
  }
  CheckHeads(fields, *config);
  ShareKeys(fields,
            fields.Size("num_kv_shared_layers", 0, config->num_layers - 1,
                        /*min=*/0),
            config);
  SetMlps(fields, config);
  for (LayerConfig& layer : config->layers) {
    layer.keys_are_values =
        keys_are_values && !layer.local_rope && layer.kv_source < 0;
  }
}

// The RoPE of one kind of layer. Of a file that has some, transformers fills in
// nothing.
ConfigFields RopeOf(const ConfigFields& fields, const json& all,
                    std::string_view kind) {
  const auto found = all.find(kind);
  if (found == all.end() || !found->is_object()) {
    throw fields.Unexpected("rope_parameters", all,
                            "objects \"full_attention\" and "
                            "\"sliding_attention\"");
  }
  return {*found, fmt::format("{}: RoPE of {}", fields.origin(), kind)};
}

std::string TypeOf(const ConfigFields& rope) {
  const std::string type = rope.Text("rope_type", "");
  if (type == "default" || type == "proportional") return type;
  throw Error(
      "{}: rope_type {} is not supported; supported: default, proportional",
      rope.origin(), Dump(json(type)));
}

void SetRope(const ConfigFields& fields, ModelConfig* config) {
  static const json kUsual = {
      {kSliding, {{"rope_type", "default"}, {"rope_theta", 1e4}}},
      {kFull,
       {{"rope_type", "proportional"},
        {"partial_rotary_factor", 0.25},
        {"rope_theta", 1e6}}}};
  for (const std::string_view key :
       {"rope_scaling", "rope_theta", "rope_local_base_freq"}) {
    if (const json* value = fields.Find(key)) {
      throw fields.Unexpected(key, *value, "\"rope_parameters\" in its place");
    }
  }
  const json* given = fields.Find("rope_parameters");
  const json& all = given == nullptr ? kUsual : *given;
  if (!all.is_object()) {
    throw fields.Unexpected("rope_parameters", all, "an object or null");
  }
  constexpr std::string_view kPartial = "partial_rotary_factor";
  const ConfigFields rope = RopeOf(fields, all, kFull);
  config->rope_theta = rope.Number("rope_theta", {}, kMinTheta, kMaxTheta);
  config->rotary_dim = config->layers.back().head_dim;
  const double partial = rope.Number(kPartial, 1, 0, 1);
  if (TypeOf(rope) == "proportional") {
    config->rope_linear_factor = rope.Number("factor", 1, 1e-6, 1e6);
    config->rotating_pairs = static_cast<int64_t>(
        std::floor(partial * static_cast<double>(config->rotary_dim) / 2));
    if (config->rotating_pairs == 0) {
      throw rope.Unexpected(kPartial, partial, "one pair at least");
    }
  } else if (partial != 1) {
    throw rope.Unexpected(kPartial, partial, "1.0 with rope_type default");
  }
  if (NumKvLayers(*config) == 0 ||
      std::ranges::none_of(config->layers, &LayerConfig::local_rope)) {
    return;
  }
  const ConfigFields local = RopeOf(fields, all, kSliding);
  if (TypeOf(local) != "default" || local.Number(kPartial, 1, 0, 1) != 1) {
    throw Error("{}: a rope_type other than default is not supported",
                local.origin());
  }
  config->local_rope_theta =
      local.Number("rope_theta", {}, kMinTheta, kMaxTheta);
  for (const LayerConfig& layer : config->layers) {
    if (layer.local_rope) config->local_rotary_dim = layer.head_dim;
  }
}

std::vector<PartName> Names(const ModelConfig& config) {
  std::vector<PartName> names = SandwichNames(config);
  names.push_back({Part::kLayerScalar, "layers.{}.layer_scalar"});
  if (config.per_layer_size == 0) return names;
  const std::vector<PartName> per_layer = PerLayerNames();
  names.insert(names.end(), per_layer.begin(), per_layer.end());
  return names;
}

}  // namespace

Family Gemma4Text() {
  return {.model_type = kGemma4Text,
          .local_rope_theta = 1e4,
          .max_position_embeddings = 131072,
          .vocab_size = 262144,
          .num_heads = 8,
          .num_kv_heads = 4,
          .head_dim = 256,
          .tie_word_embeddings = true,
          .attention_bias = Biases::kFromConfig,
          .windows = Windows::kPattern,
          .sliding_window = 512,
          .window_pattern = 6,
          .activation_key = "hidden_activation",
          .activation = "gelu_pytorch_tanh",
          .handles = {"attention_bias", "sliding_window",
                      "final_logit_softcapping", "use_bidirectional_attention",
                      "rope_local_base_freq", "num_experts"},
          .set_block = SetBlock,
          .set_layers = SetLayers,
          .read_rope = SetRope,
          .names = Names};
}

Family Gemma4() {
  return {.model_type = "gemma4",
          .tie_word_embeddings = true,
          .parse = ParseTextModel,
          .text = kGemma4Text,
          .text_is_fixed = true,
          .prefixes = {{"model.language_model.", ""},
                       {"language_model.model.", "language_model."}}};
}

}  // namespace verify_tflite
