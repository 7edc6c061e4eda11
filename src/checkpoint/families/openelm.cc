// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

// One size for each layer.
std::vector<int64_t> SizesOfLayers(const ConfigFields& fields,
                                   std::string_view key, int64_t count) {
  const json* value = fields.Find(key);
  if (value == nullptr) throw Error("{}: no \"{}\"", fields.origin(), key);
  std::vector<int64_t> sizes;
  for (const json& size :
       fields.Array(key, *value, static_cast<size_t>(count))) {
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

void ParseOpenElmLayers(const ConfigFields& fields, ModelConfig* result) {
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
      fields.Array(kMultipliers, *found, static_cast<size_t>(count));
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
    layer.head_dim = result->head_dim;
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
ModelConfig ParseOpenElm(const ConfigFields& fields, const Family& family) {
  CheckUnhandled(fields, family);
  ModelConfig result;
  result.model_type = family.model_type;
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

std::vector<PartName> OpenElmNames(const ModelConfig&) {
  return {{Part::kEmbedding, "token_embeddings"},
          {Part::kFinalNorm, "norm"},
          {Part::kHead, "lm_head"},
          {Part::kInputNorm, "layers.{}.attn_norm"},
          {Part::kMlpNorm, "layers.{}.ffn_norm"},
          {Part::kQkv, "layers.{}.attn.qkv_proj"},
          {Part::kQNorm, "layers.{}.attn.q_norm"},
          {Part::kKNorm, "layers.{}.attn.k_norm"},
          {Part::kO, "layers.{}.attn.out_proj"},
          {Part::kGateUp, "layers.{}.ffn.proj_1"},
          {Part::kDown, "layers.{}.ffn.proj_2"}};
}

}  // namespace

Family OpenElm() {
  return {.model_type = "openelm",
          .of_transformers = false,
          .parse = ParseOpenElm,
          .names = OpenElmNames,
          .prefixes = {{"transformer.", ""}}};
}

}  // namespace verify_tflite
