// SPDX-License-Identifier: Apache-2.0
#include "mapping/model_map.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "mapping/compare.h"
#include "mapping/stored.h"

namespace verify_tflite {
namespace {

std::vector<Part> PartsOf(Part part) {
  if (part == Part::kQkv) return {Part::kQ, Part::kK, Part::kV};
  if (part == Part::kGateUp) return {Part::kGate, Part::kUp};
  if (part == Part::kExpertGateUp) return {Part::kExpertGate, Part::kExpertUp};
  if (part == Part::kSharedGateUp) return {Part::kSharedGate, Part::kSharedUp};
  return {part};
}

bool IsRotatedByRope(Part part) {
  return part == Part::kQ || part == Part::kK || part == Part::kQkv;
}

InputScale ReadScale(const tflite::Constant& constant) {
  InputScale scale;
  const StoredReader reader(constant);
  scale.values.resize(static_cast<size_t>(constant.elements()));
  for (int64_t row = 0; row < constant.rows(); ++row) {
    reader.Read(row, scale.values.data() + row * constant.cols());
  }
  scale.wide.assign(scale.values.begin(), scale.values.end());
  return scale;
}

Layouts Choose(const tflite::Constant& constant, std::vector<Original> ways,
               bool transposed) {
  if (constant.type == ElementType::kUnknown) return {};
  Layouts result;
  for (Original& way : ways) {
    if (SameShape(constant, way, transposed) &&
        MayBe(constant, way, transposed)) {
      result.ways.push_back(std::move(way));
      result.fits = true;
    }
  }
  if (result.fits) return result;
  const Original* nearest = Nearest(constant, ways, transposed);
  if (nearest != nullptr) result.ways.push_back(*nearest);
  return result;
}

}  // namespace

ModelMap::ModelMap(std::shared_ptr<const tflite::Container> container,
                   const Checkpoint& checkpoint)
    : container_(std::move(container)), originals_(checkpoint) {
  container_->CheckKind();
  for (const tflite::Part* part : container_->model_parts()) {
    Add(part->file());
  }
}

ModelMap::ModelMap(std::span<const tflite::File* const> files,
                   const Checkpoint& checkpoint)
    : originals_(checkpoint) {
  for (const tflite::File* file : files) Add(*file);
}

void ModelMap::Add(const tflite::File& file) {
  file.CheckConstants();
  const ModelConfig& config = checkpoint().config();
  ModelFile& mapped = files_.emplace_back();
  mapped.file = &file;
  mapped.roles = FindRoles(file, NumKvLayers(config), config.head_dim,
                           config.sub_norms, config.num_streams);
  for (const RoleUse& use : mapped.roles.uses) {
    if (use.input_scale < 0) continue;
    const auto [entry, is_new] =
        mapped.input_scales.try_emplace(use.input_scale);
    if (!is_new) continue;
    entry->second =
        ReadScale(file.constants[static_cast<size_t>(use.input_scale)]);
  }
}

const tflite::Constant& ModelMap::ConstantOf(size_t file,
                                             const RoleUse& use) const {
  return files_[file].file->constants[static_cast<size_t>(use.constant)];
}

InputChange ModelMap::ChangeOf(size_t file, const RoleUse& use) const {
  const ModelFile& mapped = files_[file];
  InputChange change;
  if (use.rotation >= 0) {
    change.rotation = mapped.roles.rotations.at(use.rotation).get();
  }
  if (use.input_scale >= 0) {
    change.scale = &mapped.input_scales.at(use.input_scale);
  }
  return change;
}

const Rows* ModelMap::Find(const WeightRole& role) const {
  const auto found = originals_.all().find(role);
  return found == originals_.all().end() ? nullptr : &found->second;
}

std::vector<ModelMap::Place> ModelMap::PlacesOf(const Original& original,
                                                const WeightRole& role) const {
  std::vector<Place> places;
  for (const Rows& rows : original.rows) {
    for (const Rows& run : rows.Runs()) {
      bool found = false;
      for (const Part part : PartsOf(role.part)) {
        const Rows* whole = Find({part, role.layer, role.bias, role.expert});
        if (whole == nullptr && part == Part::kHead) {
          whole = Find({Part::kEmbedding, -1, false});
        }
        const int64_t first = whole == nullptr ? -1 : whole->IndexOf(run);
        if (first < 0) continue;
        places.push_back({part, first, run});
        found = true;
        break;
      }
      if (!found) return {};
    }
  }
  return places;
}

// Rows of each head of q and k alternate between its two halves, which is what
// RoPE of neighbours needs; nothing where rows are no whole heads.
std::optional<Original> ModelMap::Interleaved(const Original& original,
                                              const WeightRole& role) const {
  const int64_t dim =
      checkpoint().config().layers[static_cast<size_t>(role.layer)].head_dim;
  Original result = original;
  result.layout += result.layout.empty() ? "" : ", ";
  result.layout += "rows for RoPE of neighbours";
  result.rows.clear();
  for (const Place& place : PlacesOf(original, role)) {
    if (place.part == Part::kV) {
      result.rows.push_back(place.rows);
      continue;
    }
    if (place.rows.count % dim != 0) return std::nullopt;
    for (int64_t i = 0; i < place.rows.count; ++i) {
      const int64_t in_head = i % dim;
      Rows row = place.rows;
      row.first += i - in_head + in_head / 2 + in_head % 2 * (dim / 2);
      row.count = 1;
      result.rows.push_back(std::move(row));
    }
  }
  return result;
}

std::vector<Original> ModelMap::WaysOf(size_t file, const RoleUse& use) const {
  const WeightRole& role = use.role;
  std::vector<Original> ways = originals_.Of(role);
  if (use.composite && IsNorm(role.part)) {
    for (Original way : originals_.Plain(role)) {
      if (way.offset == 0) continue;
      way.offset = 0;
      way.composite_adds_one = true;
      ways.push_back(std::move(way));
    }
  }
  // Where the model itself turns neighbours, its own order is right.
  if (files_[file].roles.interleaved_rope &&
      !checkpoint().config().interleaved_rope && IsRotatedByRope(role.part)) {
    const size_t usual = ways.size();
    for (size_t i = 0; i < usual; ++i) {
      auto way = Interleaved(ways[i], role);
      if (way) ways.push_back(*std::move(way));
    }
  }
  const InputChange change = ChangeOf(file, use);
  for (Original& way : ways) {
    way.rotation = change.rotation;
    way.rotated_back = IsTable(role.part);
    if (change.scale != nullptr) way.input_scale = &change.scale->wide;
  }
  return ways;
}

const Layouts& ModelMap::LayoutsOf(size_t file, const RoleUse& use) const {
  const Key key = {file,           use.constant,  use.role,
                   use.transposed, use.composite, ChangeOf(file, use)};
  {
    const std::scoped_lock lock(mutex_);
    const auto known = layouts_.find(key);
    if (known != layouts_.end()) return known->second;
  }
  Layouts layouts;
  if (use.rotation < 0 || !use.transposed) {
    layouts = Choose(ConstantOf(file, use), WaysOf(file, use), use.transposed);
  }
  const std::scoped_lock lock(mutex_);
  return layouts_.try_emplace(key, std::move(layouts)).first->second;
}

Layouts ModelMap::LayoutsWith(size_t file, const RoleUse& use,
                              const std::vector<double>& scale) const {
  std::vector<Original> ways = WaysOf(file, use);
  for (Original& way : ways) way.input_scale = &scale;
  return Choose(ConstantOf(file, use), std::move(ways), use.transposed);
}

}  // namespace verify_tflite
