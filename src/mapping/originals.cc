#include "mapping/originals.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "mapping/stored.h"

namespace verify_tflite {
namespace {

// Whether the model has that layer or stream, and such an expert.
bool Exists(const WeightRole& role, const ModelConfig& config) {
  const int64_t count =
      IsOfStream(role.part) ? config.num_streams - 1 : config.num_layers;
  return role.layer < count &&
         (role.expert < 0 || role.expert < config.experts.count);
}

// Matrices of all experts lie in one tensor, a bias of the choice in a row.
// Taps are [channels, 1, taps].
size_t MostDimensions(const WeightRole& role) {
  if (role.part == Part::kConvTaps && !role.bias) return 3;
  const bool all =
      role.part == Part::kExpertGateUp || role.part == Part::kExpertDown;
  return all && role.expert < 0 ? 3 : 2;
}

}  // namespace

int64_t Rows::At(int64_t row) const {
  return run == 0 ? first + row : first + row / run * stride + row % run;
}

Rows Rows::Slice(int64_t from, int64_t size) const {
  Rows slice = *this;
  slice.first = At(from);
  slice.count = size;
  if (run != 0 && from % run + size <= run) slice.run = slice.stride = 0;
  return slice;
}

std::vector<Rows> Rows::Runs() const {
  if (run == 0) return {*this};
  std::vector<Rows> runs;
  for (int64_t from = 0; from < count; from += run) {
    runs.push_back(Slice(from, std::min(run, count - from)));
  }
  return runs;
}

int64_t Rows::IndexOf(const Rows& part) const {
  const int64_t distance = part.first - first;
  if (tensor != part.tensor || distance < 0 || part.run != 0) return -1;
  const int64_t within = run == 0 ? distance : distance % stride;
  const int64_t index =
      run == 0 ? distance : distance / stride * run + distance % stride;
  const bool one_run = run == 0 || within + part.count <= run;
  return one_run && index + part.count <= count ? index : -1;
}

int64_t Original::num_rows() const {
  int64_t sum = 0;
  for (const Rows& part : rows) sum += part.count;
  return sum;
}

Originals::Originals(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
  for (const auto& [name, tensor] : checkpoint.tensors()) Add(name, tensor);
  const ModelConfig& config = checkpoint.config();
  if (config.num_streams > 0) AddOnes(config.num_streams);
  if (!config.v_norm) return;
  for (const LayerConfig& layer : config.layers) AddOnes(layer.head_dim);
}

void Originals::AddOnes(int64_t size) {
  auto& [values, view] = ones_[size];
  values.assign(static_cast<size_t>(size), 1.0f);
  view.shape = {size};
  view.data = std::as_bytes(std::span(values));
}

void Originals::Add(const std::string& name, const TensorView& tensor) {
  const WeightNames& names = checkpoint_.names();
  const auto role = names.RoleOf(name);
  if (!role || !Exists(*role, checkpoint_.config()) || tensor.shape.empty() ||
      tensor.shape.size() > MostDimensions(*role)) {
    others_.push_back(name);
    return;
  }
  for (const PartRows& rows :
       names.RowsOf(*role, checkpoint_.config(), MatrixRows(tensor))) {
    AddPart({rows.part, role->layer, role->bias, rows.expert}, name, tensor,
            rows);
  }
}

void Originals::AddPart(const WeightRole& role, const std::string& name,
                        const TensorView& tensor, const PartRows& part) {
  Rows rows{&tensor, name, part.first, part.count, 1, part.run, part.stride};
  rows.cols = MatrixColumns(tensor);
  // A constant of one row counts as a vector.
  const bool is_row = rows.count == 1 && (role.part == Part::kRouterBias ||
                                          role.part == Part::kSharedScale);
  if (is_row) std::swap(rows.count, rows.cols);
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
  if (role.part == Part::kO || role.part == Part::kDown ||
      role.part == Part::kExpertDown || role.part == Part::kSharedDown) {
    add(config.residual_scale, "the scale of the residual");
  }
  if (role.part == Part::kHead) add(1 / config.logit_divisor, "of the logits");
  if (role.part == Part::kHead && config.logit_softcap) {
    add(1 / *config.logit_softcap, "of soft-capping");
  }
  if (role.part == Part::kEmbedding) {
    add(config.embedding_scale, "the embedding's scale");
  }
  if (role.part == Part::kPerLayerModelProjection) {
    add(1 / std::sqrt(static_cast<double>(config.hidden_size)),
        "of the per-layer inputs");
  }
  if (role.part == Part::kPerLayerModelProjection ||
      role.part == Part::kStreamProjection) {
    add(config.embedding_scale, "the embedding's scale");
  }
  if (role.part == Part::kPerLayerModelProjection) {
    // Both together: 1, but for the rounding of two factors.
    add(std::nextafter(1.0, 2.0),
        "of the per-layer inputs and the embedding's scale");
  }
  if (role.part == Part::kStreamRouter ||
      role.part == Part::kStreamRouterNorm) {
    const size_t first = ways.size();
    add(1 / static_cast<double>(config.hidden_size), "of the router's input");
    for (size_t i = first; i < ways.size(); ++i) {
      ways[i].factor_of_input = role.part == Part::kStreamRouter;
    }
  }
  if (role.part == Part::kPerLayerEmbedding) {
    add(std::sqrt(static_cast<double>(config.per_layer_size)),
        "the embedding's scale");
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
    case Part::kRouter:
    case Part::kExpertGate:
    case Part::kExpertUp:
    case Part::kExpertGateUp:
    case Part::kSharedGate:
    case Part::kSharedUp:
    case Part::kSharedGateUp:
    case Part::kSharedScale:
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
  const std::vector<Original> matrices =
      Plain({role.part, role.layer, false, role.expert});
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
    const auto found = parts_.find({p, role.layer, role.bias, role.expert});
    return found == parts_.end() ? nullptr : &found->second;
  };
  std::vector<Original> ways;
  if (role.part == Part::kQkv) {
    const Rows *q = part(Part::kQ), *k = part(Part::kK), *v = part(Part::kV);
    if (!q || !k || !v) return {};
    const LayerConfig& layer = config.layers[static_cast<size_t>(role.layer)];
    const int64_t dim = layer.head_dim, groups = layer.num_kv_heads;
    if (q->count != layer.num_heads * dim || k->count != groups * dim ||
        v->count != k->count) {
      return {};
    }
    const int64_t queries = q->count / groups;
    Original grouped{"q, k and v of each KV head in turn", {}};
    for (int64_t g = 0; g < groups; ++g) {
      grouped.rows.push_back(q->Slice(g * queries, queries));
      grouped.rows.push_back(k->Slice(g * dim, dim));
      grouped.rows.push_back(v->Slice(g * dim, dim));
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
  if (role.part == Part::kExpertGateUp) {
    const Rows *gate = part(Part::kExpertGate), *up = part(Part::kExpertUp);
    if (!gate || !up) return {};
    return {{"gate, up", {*gate, *up}}};
  }
  if (role.part == Part::kSharedGateUp) {
    const Rows *gate = part(Part::kSharedGate), *up = part(Part::kSharedUp);
    if (!gate || !up) return {};
    return {{"gate, up", {*gate, *up}}};
  }
  if (role.part == Part::kVNorm && config.v_norm && !role.bias) {
    const int64_t size =
        config.layers[static_cast<size_t>(role.layer)].head_dim;
    return {{"ones: a norm without weight",
             {{&ones_.at(size).second, "(ones)", 0, size}}}};
  }
  if (role.part == Part::kCorrection && role.bias && config.num_streams > 0) {
    const int64_t size = config.num_streams;
    return {{"ones: what corrects has one added",
             {{&ones_.at(size).second, "(ones)", 0, size}}}};
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
  if (original.rotation == nullptr) {
    ReadPlain(original, row, first, count, out);
  } else {
    ReadRotated(original, row, first, count, out);
  }
}

void Originals::ReadRotated(const Original& original, int64_t row,
                            int64_t first, int64_t count, float* out) {
  const Rotation& rotation = *original.rotation;
  const int64_t size = rotation.size();
  const int64_t begin = first / size * size;
  const int64_t end = (first + count + size - 1) / size * size;
  thread_local std::vector<float> plain;
  thread_local std::vector<double> values;
  plain.resize(static_cast<size_t>(end - begin));
  ReadPlain(original, row, begin, end - begin, plain.data());
  values.assign(plain.begin(), plain.end());
  // The product with a row r of the constant is r M x, M r what a lookup gives.
  if (original.rotated_back) {
    rotation.Undo(values);
  } else {
    rotation.UndoTransposed(values);
  }
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<float>(values[first - begin + i]);
  }
}

void Originals::ReadPlain(const Original& original, int64_t row, int64_t first,
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
    ToFloats(*part.tensor, part.At(row) * part.cols + first, count, out);
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
    if (original.input_scale != nullptr) {
      for (int64_t i = 0; i < count; ++i) {
        out[i] =
            static_cast<float>(out[i] / (*original.input_scale)[first + i]);
      }
    }
    return;
  }
}

}  // namespace verify_tflite
