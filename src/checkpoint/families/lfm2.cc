// SPDX-License-Identifier: Apache-2.0
// LFM2, some of whose layers have a short convolution in place of attention.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

constexpr std::string_view kTypes = "layer_types";
constexpr std::string_view kAttention = "full_attn_idxs";
constexpr std::string_view kMlpSize = "intermediate_size";
constexpr std::string_view kMultiplier = "block_ffn_dim_multiplier";
constexpr std::string_view kActivation = "hidden_act";
constexpr int64_t kMaxTaps = 1024;

// Names of the first files, which win over today's.
constexpr std::pair<std::string_view, std::string_view> kOlder[] = {
    {"tie_embedding", "tie_word_embeddings"}, {"block_ff_dim", kMlpSize}};

// Which layers have a convolution: "layer_types" says it or, without,
// "full_attn_idxs"; without either no layer has one.
std::vector<bool> Convolutions(const ConfigFields& fields, size_t count) {
  std::vector<bool> conv(count);
  if (const json* types = fields.Find(kTypes)) {
    fields.Array(kTypes, *types, count);
    for (size_t i = 0; i < count; ++i) {
      conv[i] = (*types)[i] == "conv";
      if (conv[i] || (*types)[i] == "full_attention") continue;
      throw fields.Unexpected(kTypes, *types,
                              "\"full_attention\" and \"conv\"");
    }
    return conv;
  }
  const json* attention = fields.Find(kAttention);
  if (attention == nullptr) return conv;
  if (!attention->is_array()) {
    throw fields.Unexpected(kAttention, *attention, "an array");
  }
  conv.assign(count, true);
  for (const json& layer : *attention) {
    if (!layer.is_number_unsigned()) {
      throw fields.Unexpected(kAttention, *attention, "numbers of layers");
    }
    const auto index = layer.get<uint64_t>();
    if (index < count) conv[index] = false;
  }
  return conv;
}

// Lfm2MLP: sizes are rounded down, then up to a multiple.
int64_t MlpSize(const ConfigFields& fields) {
  const int64_t size = fields.Size(kMlpSize);
  if (!fields.Flag("block_auto_adjust_ff_dim", true)) return size;
  const auto adjusted =
      static_cast<int64_t>(2.0 * static_cast<double>(size) / 3.0);
  if (fields.IsNull(kMultiplier)) return adjusted;
  const double multiplier = fields.Number(kMultiplier, 1.0, 1e-3, 1e3);
  const int64_t multiple = fields.Size("block_multiple_of", 256);
  const auto scaled =
      static_cast<int64_t>(multiplier * static_cast<double>(adjusted));
  return (scaled + multiple - 1) / multiple * multiple;
}

void SetBlock(const ConfigFields& fields, ModelConfig* config) {
  config->qk_norm = true;
  config->conv_taps = fields.Size("conv_L_cache", 3, kMaxTaps, /*min=*/2);
  config->conv_bias = fields.Flag("conv_bias", false);
  config->intermediate_size = MlpSize(fields);
  if (config->intermediate_size < 1) {
    throw fields.Unexpected(kMlpSize, *fields.Find(kMlpSize),
                            "a size that leaves something");
  }
}

void SetLayers(const std::vector<bool>& conv, ModelConfig* config) {
  for (size_t i = 0; i < conv.size(); ++i) {
    if (!conv[i]) continue;
    LayerConfig& layer = config->layers[i];
    layer.conv = true;
    layer.rope = false;
    layer.num_heads = layer.num_kv_heads = 1;
    layer.head_dim = config->hidden_size;
  }
}

ModelConfig ParseLfm2(const ConfigFields& fields, const Family& family) {
  json object = fields.object();
  for (const auto& [older, key] : kOlder) {
    if (object.contains(older))
      object[std::string(key)] = object[std::string(older)];
  }
  // Its own kinds of layers, and SiLU, whatever it says.
  object.erase(std::string(kTypes));
  object.erase(std::string(kActivation));
  ModelConfig config =
      ParseDecoder(ConfigFields(object, fields.origin()), family);
  SetLayers(Convolutions(fields, config.layers.size()), &config);
  const json* activation = fields.Find(kActivation);
  if (activation != nullptr && *activation != "silu") {
    config.notes.push_back(fmt::format(
        "{}: \"{}\" is {}: transformers ignores it for {}, and so does this "
        "verification",
        fields.origin(), kActivation, Dump(*activation), family.model_type));
  }
  return config;
}

std::vector<PartName> Lfm2Names(const ModelConfig&) {
  return {{Part::kEmbedding, "embed_tokens"},
          {Part::kFinalNorm, "embedding_norm"},
          {Part::kHead, "lm_head"},
          {Part::kInputNorm, "layers.{}.operator_norm"},
          {Part::kMlpNorm, "layers.{}.ffn_norm"},
          {Part::kQ, "layers.{}.self_attn.q_proj"},
          {Part::kK, "layers.{}.self_attn.k_proj"},
          {Part::kV, "layers.{}.self_attn.v_proj"},
          {Part::kO, "layers.{}.self_attn.out_proj"},
          {Part::kQNorm, "layers.{}.self_attn.q_layernorm"},
          {Part::kKNorm, "layers.{}.self_attn.k_layernorm"},
          {Part::kConvInput, "layers.{}.conv.in_proj"},
          {Part::kConvTaps, "layers.{}.conv.conv"},
          {Part::kConvOutput, "layers.{}.conv.out_proj"},
          {Part::kGate, "layers.{}.feed_forward.w1"},
          {Part::kUp, "layers.{}.feed_forward.w3"},
          {Part::kDown, "layers.{}.feed_forward.w2"}};
}

}  // namespace

Family Lfm2() {
  return {.model_type = "lfm2",
          .rms_norm_eps = 1e-5,
          .rope_theta = 1e6,
          .max_position_embeddings = 128000,
          .num_kv_heads = 8,
          .tie_word_embeddings = true,
          .norm_eps_key = "norm_eps",
          .set_block = SetBlock,
          .parse = ParseLfm2,
          .names = Lfm2Names};
}

}  // namespace verify_tflite
