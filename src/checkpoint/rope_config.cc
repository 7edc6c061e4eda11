// SPDX-License-Identifier: Apache-2.0
// RoPE as config.json has it.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

// transformers lets a top-level value win over the one in the dictionary.
int64_t OriginalPositions(const ConfigFields& rope, const ConfigFields& fields,
                          const ModelConfig& config) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  const ConfigFields& source = fields.Find(kKey) ? fields : rope;
  return source.Size(kKey, config.max_position_embeddings, kMaxPositions);
}

Llama3RopeScaling ParseLlama3Rope(const ConfigFields& rope,
                                  const ConfigFields& fields,
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
const json* FindRope(const ConfigFields& fields, std::string_view* key) {
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

std::vector<double> ParseFactors(const ConfigFields& rope, std::string_view key,
                                 int64_t count) {
  const json* value = rope.Find(key);
  if (value == nullptr) throw Error("{}: no \"{}\"", rope.origin(), key);
  std::vector<double> factors;
  for (const json& factor :
       rope.Array(key, *value, static_cast<size_t>(count))) {
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
void ParseLongRope(const ConfigFields& rope, const ConfigFields& fields,
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
void ParseYarn(const ConfigFields& rope, const ConfigFields& fields,
               ModelConfig* result) {
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

std::string TypeOf(const ConfigFields& rope) {
  return rope.Text("rope_type", rope.Text("type", "default"));
}

void NoteIgnored(const ConfigFields& fields, std::string_view key,
                 const Family& family, ModelConfig* result) {
  result->notes.push_back(fmt::format(
      "{}: \"{}\" is {}: transformers ignores it for {}, and so "
      "does this verification",
      fields.origin(), key, Dump(*fields.Find(key)), family.model_type));
}

void ParseRotaryDim(const ConfigFields& fields, const ConfigFields& rope,
                    const Family& family, ModelConfig* result) {
  constexpr std::string_view kKey = "partial_rotary_factor";
  const bool handled = family.Handles(kKey);
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

void ParseRopeType(const ConfigFields& rope, const ConfigFields& fields,
                   const Family& family, ModelConfig* result) {
  std::string type = TypeOf(rope);
  constexpr std::string_view kSections = "mrope_section";
  if (family.Handles(kSections) && (type == "default" || type == "mrope")) {
    return;
  }
  if (rope.Find(kSections) != nullptr && type == "default") {
    NoteIgnored(rope, kSections, family, result);
  } else if (rope.Find(kSections) != nullptr) {
    type += " with mrope_section";
  }
  if (type == "default") return;
  // Ignored with default RoPE; whether each scaling reads it is not known.
  constexpr std::string_view kPartial = "partial_rotary_factor";
  if (const json* partial = fields.Find(kPartial);
      partial != nullptr && *partial != 1.0 && !family.Handles(kPartial)) {
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
  } else if (family.ntk_alpha && type == "dynamic" &&
             rope.Number("alpha", 0, 0, 1e9) > 0) {
    // A base of its own, whatever the length of the text is.
    const auto dim = static_cast<double>(result->head_dim);
    result->rope_theta *=
        std::pow(rope.Number("alpha", {}, 1e-9, 1e9), dim / (dim - 2));
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

// rope_parameters of one kind of layer, or an empty object.
json RopeOf(const ConfigFields& fields, std::string_view layers) {
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

}  // namespace

void ParseRope(const ConfigFields& fields, const Family& family,
               ModelConfig* result) {
  static const json kNone = json::object();
  std::string_view key;
  const json* object = FindRope(fields, &key);
  json usual;
  if (object == nullptr && !family.default_rope.empty() &&
      fields.Find("rope_parameters") == nullptr) {
    usual = json::parse(family.default_rope);
    object = &usual;
  }
  result->rope_theta =
      fields.Number("rope_theta", family.rope_theta, kMinTheta, kMaxTheta);
  const ConfigFields rope(object ? *object : kNone,
                          object
                              ? fmt::format("{}: \"{}\"", fields.origin(), key)
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
  if (family.set_rope != nullptr) family.set_rope(rope, fields, result);
}

void ParseTwoRopes(const ConfigFields& fields, const Family& family,
                   ModelConfig* result) {
  json full = RopeOf(fields, "full_attention");
  if (const json* scaling = fields.Find("rope_scaling")) {
    if (!scaling->is_object()) {
      throw fields.Unexpected("rope_scaling", *scaling, "an object or null");
    }
    full.update(*scaling);
  }
  const json sliding = RopeOf(fields, "sliding_attention");
  const ConfigFields rope(full, fields.origin() + ": RoPE of full_attention");
  const ConfigFields local(sliding,
                           fields.origin() + ": RoPE of sliding_attention");
  result->rope_theta = rope.Number(
      "rope_theta",
      fields.Number("rope_theta", family.rope_theta, kMinTheta, kMaxTheta),
      kMinTheta, kMaxTheta);
  result->local_rope_theta = local.Number(
      "rope_theta",
      family.Handles("rope_local_base_freq")
          ? fields.Number("rope_local_base_freq", family.local_rope_theta,
                          kMinTheta, kMaxTheta)
          : family.local_rope_theta,
      kMinTheta, kMaxTheta);
  // transformers has set rope_type before it meets the older key.
  for (const ConfigFields& each : {rope, local}) {
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

}  // namespace verify_tflite
