#include "audit/originals.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "audit/stored.h"

namespace verify_tflite {
namespace {

constexpr std::string_view kEmbedding = "embed_tokens.weight";

struct Suffix {
  std::string_view name;
  Part part;
};
// Behind "layers.N.".
constexpr Suffix kLayerParts[] = {
    {"self_attn.q_proj", Part::kQ},
    {"self_attn.k_proj", Part::kK},
    {"self_attn.v_proj", Part::kV},
    {"self_attn.qkv_proj", Part::kQkv},
    {"self_attn.o_proj", Part::kO},
    {"self_attn.dense", Part::kO},
    {"self_attn.q_norm", Part::kQNorm},
    {"self_attn.k_norm", Part::kKNorm},
    {"mlp.gate_proj", Part::kGate},
    {"mlp.up_proj", Part::kUp},
    {"mlp.fc1", Part::kUp},
    {"mlp.gate_up_proj", Part::kGateUp},
    {"mlp.down_proj", Part::kDown},
    {"mlp.fc2", Part::kDown},
    {"input_layernorm", Part::kInputNorm},
    {"pre_feedforward_layernorm", Part::kMlpNorm},
    {"post_feedforward_layernorm", Part::kOutputNorm},
};
constexpr std::string_view kPostAttention = "post_attention_layernorm";

// Splits "rest.weight"; false for what is neither weight nor bias.
bool SplitKind(std::string_view& name, bool& bias) {
  bias = name.ends_with(".bias");
  if (!bias && !name.ends_with(".weight")) return false;
  name.remove_suffix(bias ? 5 : 7);
  return true;
}

Rows Slice(Rows rows, int64_t first, int64_t count) {
  rows.first += first;
  rows.count = count;
  return rows;
}

}  // namespace

int64_t Original::num_rows() const {
  int64_t sum = 0;
  for (const Rows& part : rows) sum += part.count;
  return sum;
}

Originals::Originals(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
  for (const auto& [name, tensor] : checkpoint.tensors()) Add(name, tensor);
}

void Originals::Add(const std::string& name, const TensorView& tensor) {
  // A multimodal model has other towers with layers of the same names.
  const bool other_tower = name.find("vision") != std::string::npos ||
                           name.find("audio") != std::string::npos ||
                           name.find("multi_modal") != std::string::npos;
  std::string_view rest = name;
  bool bias = false;
  if (other_tower || tensor.shape.empty() || tensor.shape.size() > 2 ||
      !SplitKind(rest, bias)) {
    others_.push_back(name);
    return;
  }
  const int64_t count = tensor.shape[0];
  const auto add = [&](Part part, int32_t layer) {
    AddPart({part, layer, bias}, name, tensor, 0, count);
  };
  constexpr std::string_view kLayers = "layers.";
  const size_t at = rest.find(kLayers);
  if (at == std::string_view::npos) {
    if (rest.ends_with("embed_tokens")) return add(Part::kEmbedding, -1);
    if (rest.ends_with("lm_head")) return add(Part::kHead, -1);
    if (rest.ends_with(".norm") || rest.ends_with("final_layernorm")) {
      return add(Part::kFinalNorm, -1);
    }
    others_.push_back(name);
    return;
  }
  rest.remove_prefix(at + kLayers.size());
  int32_t layer = -1;
  const auto [end, error] =
      std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const ModelConfig& config = checkpoint_.config();
  if (error != std::errc() || layer < 0 || layer >= config.num_layers ||
      end == rest.data() + rest.size() || *end != '.') {
    others_.push_back(name);
    return;
  }
  rest.remove_prefix(end - rest.data() + 1);
  if (rest == kPostAttention) {
    return add(config.sandwich_norms ? Part::kAttentionNorm : Part::kMlpNorm,
               layer);
  }
  for (const Suffix& suffix : kLayerParts) {
    if (rest != suffix.name) continue;
    const int64_t q = config.num_heads * config.head_dim;
    const int64_t k = config.num_kv_heads * config.head_dim;
    if (suffix.part == Part::kQkv && count == q + 2 * k) {
      AddPart({Part::kQ, layer, bias}, name, tensor, 0, q);
      AddPart({Part::kK, layer, bias}, name, tensor, q, k);
      AddPart({Part::kV, layer, bias}, name, tensor, q + k, k);
    } else if (suffix.part == Part::kGateUp && count % 2 == 0) {
      AddPart({Part::kGate, layer, bias}, name, tensor, 0, count / 2);
      AddPart({Part::kUp, layer, bias}, name, tensor, count / 2, count / 2);
    } else {
      add(suffix.part, layer);
    }
    return;
  }
  others_.push_back(name);
}

void Originals::AddPart(const WeightRole& role, const std::string& name,
                        const TensorView& tensor, int64_t first,
                        int64_t count) {
  Rows rows{&tensor, name, first, count, 1};
  if (tensor.shape.size() == 2) rows.cols = tensor.shape[1];
  if (!parts_.try_emplace(role, rows).second) others_.push_back(name);
  if (role.part == Part::kHead && !role.bias) has_head_ = true;
}

const Rows* Originals::Find(const WeightRole& role) const {
  const auto found = parts_.find(role);
  return found == parts_.end() ? nullptr : &found->second;
}

std::vector<Original> Originals::Of(const WeightRole& role) const {
  std::vector<Original> ways = Plain(role);
  AddScaled(role, ways);
  AddNormFolded(role, ways);
  return ways;
}

void Originals::AddScaled(const WeightRole& role,
                          std::vector<Original>& ways) const {
  const ModelConfig& config = checkpoint_.config();
  const size_t plain = ways.size();
  const auto add = [&](double factor, const char* why) {
    for (size_t i = 0; i < plain && factor != 1; ++i) {
      Original way = ways[i];
      way.factor = factor;
      way.layout += fmt::format("{}times {:.6g}, {}",
                                way.layout.empty() ? "" : ", ", factor, why);
      ways.push_back(std::move(way));
    }
  };
  const double scale = config.attention_scale;
  if (scale > 0 && role.part == Part::kQ) add(scale, "the scale of attention");
  if (scale > 0 && (role.part == Part::kQ || role.part == Part::kK)) {
    add(std::sqrt(scale), "the root of attention's scale");
  }
  if (role.part == Part::kHead && config.logit_softcap) {
    add(1 / *config.logit_softcap, "of soft-capping");
  }
  if (role.part == Part::kEmbedding) {
    add(config.embedding_scale, "the embedding's scale");
  }
}

void Originals::AddNormFolded(const WeightRole& role,
                              std::vector<Original>& ways) const {
  const ModelConfig& config = checkpoint_.config();
  WeightRole norm{Part::kInputNorm, role.layer, false};
  switch (role.part) {
    case Part::kQ:
    case Part::kK:
    case Part::kV:
    case Part::kQkv:
      break;
    case Part::kGate:
    case Part::kUp:
    case Part::kGateUp:
      if (config.mlp_norm) norm.part = Part::kMlpNorm;
      break;
    case Part::kHead:
      norm = {Part::kFinalNorm, -1, false};
      break;
    default:
      return;
  }
  const Rows* weight = Find(norm);
  norm.bias = true;
  const Rows* shift = Find(norm);
  const size_t plain = ways.size();
  if (!role.bias) {
    for (size_t i = 0; i < plain; ++i) {
      if (weight == nullptr || ways[i].cols() != weight->count) continue;
      Original way = ways[i];
      way.column_factor = weight;
      way.column_offset = config.norm_adds_one ? 1 : 0;
      way.layout += way.layout.empty() ? "times the norm's weight"
                                       : ", times the norm's weight";
      ways.push_back(std::move(way));
    }
    return;
  }
  // W (n + shift) + b = W n + (W shift + b)
  if (shift == nullptr) return;
  const std::vector<Original> matrices = Plain({role.part, role.layer, false});
  std::vector<float> shifts(shift->count), row(shift->count);
  ToFloats(*shift->tensor, shift->first, shift->count, shifts.data());
  for (size_t i = 0; i < matrices.size(); ++i) {
    if (matrices[i].cols() != shift->count) continue;
    Original way = i < plain ? ways[i] : matrices[i];
    const bool has_bias = i < plain;
    way.layout +=
        way.layout.empty() ? "with the norm's bias" : ", with the norm's bias";
    for (int64_t r = 0; r < matrices[i].num_rows(); ++r) {
      float bias = 0;
      if (has_bias) Read(ways[i], r, 0, 1, &bias);
      Read(matrices[i], r, 0, shift->count, row.data());
      double sum = bias, size = std::fabs(bias);
      for (int64_t c = 0; c < shift->count; ++c) {
        const double product = double{row[c]} * shifts[c];
        sum += product;
        size += std::fabs(product);
      }
      way.computed.push_back(static_cast<float>(sum));
      way.computed_steps.push_back(static_cast<float>(size * 0x1p-22));
    }
    for (Rows& rows : way.rows) rows.cols = 1;
    ways.push_back(std::move(way));
  }
}

std::vector<Original> Originals::Plain(const WeightRole& role) const {
  const ModelConfig& config = checkpoint_.config();
  const auto part = [&](Part p) -> const Rows* {
    const auto found = parts_.find({p, role.layer, role.bias});
    return found == parts_.end() ? nullptr : &found->second;
  };
  std::vector<Original> ways;
  if (role.part == Part::kQkv) {
    const Rows *q = part(Part::kQ), *k = part(Part::kK), *v = part(Part::kV);
    const int64_t dim = config.head_dim, groups = config.num_kv_heads;
    if (!q || !k || !v || q->count != config.num_heads * dim ||
        k->count != groups * dim || v->count != k->count) {
      return {};
    }
    const int64_t queries = q->count / groups;
    Original grouped{"q, k and v of each KV head in turn", {}};
    for (int64_t g = 0; g < groups; ++g) {
      grouped.rows.push_back(Slice(*q, g * queries, queries));
      grouped.rows.push_back(Slice(*k, g * dim, dim));
      grouped.rows.push_back(Slice(*v, g * dim, dim));
    }
    ways.push_back(std::move(grouped));
    if (groups > 1) ways.push_back({"q, k, v", {*q, *k, *v}});
    return ways;
  }
  if (role.part == Part::kGateUp) {
    const Rows *gate = part(Part::kGate), *up = part(Part::kUp);
    if (!gate || !up) return {};
    return {{"gate, up", {*gate, *up}}};
  }
  const Rows* rows = part(role.part);
  // A model without a head of its own uses the embedding.
  if (rows == nullptr && role.part == Part::kHead && !role.bias) {
    rows = part(Part::kEmbedding);
  }
  if (rows == nullptr) return {};
  Original original{"", {*rows}};
  if (IsNorm(role.part) && config.norm_adds_one && !role.bias) {
    original.layout = "1 + w";
    original.offset = 1;
  }
  ways.push_back(std::move(original));
  return ways;
}

void Originals::Read(const Original& original, int64_t row, int64_t first,
                     int64_t count, float* out) {
  if (!original.computed.empty()) {
    out[0] = original.computed[row];
    return;
  }
  for (const Rows& part : original.rows) {
    if (row >= part.count) {
      row -= part.count;
      continue;
    }
    ToFloats(*part.tensor, (part.first + row) * part.cols + first, count, out);
    if (original.offset != 0 || original.factor != 1) {
      for (int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(
            original.offset + original.factor * static_cast<double>(out[i]));
      }
    }
    if (original.column_factor != nullptr) {
      const Rows& norm = *original.column_factor;
      for (int64_t i = 0; i < count; ++i) {
        float weight = 0;
        ToFloats(*norm.tensor, norm.first + first + i, 1, &weight);
        out[i] = static_cast<float>((original.column_offset + weight) *
                                    static_cast<double>(out[i]));
      }
    }
    return;
  }
}

}  // namespace verify_tflite
