// SPDX-License-Identifier: Apache-2.0
// Gemma 3n: its text model by itself or inside a multimodal one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

constexpr std::string_view kGemma3nText = "gemma3n_text";
constexpr std::string_view kMlpSize = "intermediate_size";
constexpr std::string_view kSparsity = "activation_sparsity_pattern";
constexpr std::string_view kVocab = "vocab_size_per_layer_input";
// More would be no model.
constexpr int64_t kMaxStreams = 64;
constexpr int64_t kUsualMlpSize = 16384;

// transformers takes no null for these.
void RefuseNulls(const ConfigFields& fields) {
  for (const std::string_view key :
       {std::string_view("altup_num_inputs"),
        std::string_view("altup_active_idx"),
        std::string_view("altup_correct_scale"),
        std::string_view("hidden_size_per_layer_input"),
        std::string_view("laurel_rank"),
        std::string_view("num_kv_shared_layers"), kVocab}) {
    if (fields.IsNull(key)) throw fields.Unexpected(key, nullptr, "a value");
  }
}

void SetBlock(const ConfigFields& fields, ModelConfig* config) {
  RefuseNulls(fields);
  config->embedding_scale = std::sqrt(static_cast<double>(config->hidden_size));
  config->attention_scale = 1;
  config->sandwich_norms = true;
  config->qk_norm = true;
  config->v_norm = true;
  config->per_layer_size = fields.Size("hidden_size_per_layer_input", 256);
  config->per_layer_vocab_size = fields.Size(kVocab, 262144);
  config->num_streams =
      fields.Size("altup_num_inputs", 4, kMaxStreams, /*min=*/2);
  config->active_stream =
      fields.Size("altup_active_idx", 0, config->num_streams - 1, /*min=*/0);
  config->stream_scale = fields.Flag("altup_correct_scale", true);
  config->laurel_rank = fields.Size("laurel_rank", 64);
}

// Sizes of MLPs; nothing where they are of one size.
std::vector<int64_t> MlpSizes(const ConfigFields& fields) {
  const json* all = fields.Find(kMlpSize);
  if (all == nullptr || !all->is_array()) return {};
  const auto count =
      static_cast<size_t>(fields.Size("num_hidden_layers", {}, kMaxLayers));
  std::vector<int64_t> sizes;
  for (const json& size : fields.Array(kMlpSize, *all, count)) {
    const json one = {{kMlpSize, size}};
    sizes.push_back(ConfigFields(one, fields.origin()).Size(kMlpSize));
  }
  return sizes;
}

// Without a pattern, the first 10 of more than 10 layers are sparse.
void SetSparsity(const ConfigFields& fields, ModelConfig* config) {
  const json* all = fields.Find(kSparsity);
  if (all == nullptr) {
    constexpr size_t kFirst = 10;
    const size_t count = config->layers.size() > kFirst ? kFirst : 0;
    for (size_t i = 0; i < count; ++i) config->layers[i].sparsity = 0.95;
    return;
  }
  fields.Array(kSparsity, *all, config->layers.size());
  for (size_t i = 0; i < config->layers.size(); ++i) {
    const json& share = (*all)[i];
    if (!share.is_number() || share < 0.0 || share > 0.9999) {
      throw fields.Unexpected(kSparsity, *all, "numbers from 0 to 0.9999");
    }
    config->layers[i].sparsity = share.get<double>();
  }
}

void SetLayers(const ConfigFields& fields, ModelConfig* config) {
  SetSparsity(fields, config);
  ShareKeys(fields,
            fields.Size("num_kv_shared_layers", 15, config->num_layers - 1,
                        /*min=*/0),
            config);
}

// The sizes of MLPs may be a list.
ModelConfig ParseText(const ConfigFields& fields, const Family& family) {
  const std::vector<int64_t> sizes = MlpSizes(fields);
  json object = fields.object();
  if (!sizes.empty() || fields.Find(kMlpSize) == nullptr) {
    // As a file has it: without a sign.
    object[std::string(kMlpSize)] = static_cast<uint64_t>(
        sizes.empty() ? kUsualMlpSize : std::ranges::max(sizes));
  }
  ModelConfig config =
      ParseDecoder(ConfigFields(object, fields.origin()), family);
  for (size_t i = 0; i < sizes.size(); ++i) {
    config.layers[i].intermediate_size = sizes[i];
  }
  return config;
}

// Tokens of images and sound have embeddings of their own.
void NoteTokens(const ConfigFields& fields, ModelConfig* config) {
  constexpr std::string_view kTower = "vision_config";
  const json none = json::object();
  const json* tower = fields.Find(kTower);
  if (tower != nullptr && !tower->is_object()) {
    throw fields.Unexpected(kTower, *tower, "an object");
  }
  const ConfigFields vision(tower == nullptr ? none : *tower, fields.origin());
  const int64_t first = vision.Size("vocab_offset", 262144);
  if (first >= config->vocab_size) return;
  config->notes.push_back(fmt::format(
      "{}: tokens from {} on stand for images and sound: transformers gives "
      "them embeddings of their own, which this verification does not look at",
      fields.origin(), first));
}

ModelConfig ParseGemma3nMultimodal(const ConfigFields& fields,
                                   const Family& outer) {
  ModelConfig config = ParseTextModel(fields, outer);
  NoteTokens(fields, &config);
  return config;
}

std::vector<PartName> Names(const ModelConfig& config) {
  std::vector<PartName> names = SandwichNames(config);
  const std::vector<PartName> per_layer = PerLayerNames();
  names.insert(names.end(), per_layer.begin(), per_layer.end());
  const PartName streams[] = {
      {Part::kStreamProjection, "altup_projections.{}"},
      {Part::kStreamOutput, "altup_unembed_projections.{}"},
      {Part::kStreamRouter, "layers.{}.altup.modality_router"},
      {Part::kStreamRouterNorm, "layers.{}.altup.router_norm"},
      {Part::kPrediction, "layers.{}.altup.prediction_coefs"},
      {Part::kCorrection, "layers.{}.altup.correction_coefs"},
      {Part::kStreamScale, "layers.{}.altup.correct_output_scale"},
      {Part::kLaurelLeft, "layers.{}.laurel.linear_left"},
      {Part::kLaurelRight, "layers.{}.laurel.linear_right"},
      {Part::kLaurelNorm, "layers.{}.laurel.post_laurel_norm"}};
  names.insert(names.end(), std::begin(streams), std::end(streams));
  return names;
}

}  // namespace

Family Gemma3nText() {
  return {.model_type = kGemma3nText,
          .rope_theta = 1e6,
          .local_rope_theta = 1e4,
          .max_position_embeddings = 32768,
          .vocab_size = 262400,
          .num_heads = 8,
          .num_kv_heads = 2,
          .head_dim = 256,
          .tie_word_embeddings = true,
          .attention_bias = Biases::kFromConfig,
          .windows = Windows::kPattern,
          .sliding_window = 512,
          .window_pattern = 5,
          .activation_key = "hidden_activation",
          .activation = "gelu_pytorch_tanh",
          .logit_softcap = 30,
          .handles = {"attention_bias", "sliding_window",
                      "final_logit_softcapping", "rope_local_base_freq"},
          .set_block = SetBlock,
          .set_layers = SetLayers,
          .parse = ParseText,
          .names = Names};
}

Family Gemma3n() {
  return {.model_type = "gemma3n",
          .tie_word_embeddings = true,
          .parse = ParseGemma3nMultimodal,
          .text = kGemma3nText,
          .text_is_fixed = true,
          .prefixes = {{"model.language_model.", ""},
                       {"language_model.model.", "language_model."}}};
}

}  // namespace verify_tflite
