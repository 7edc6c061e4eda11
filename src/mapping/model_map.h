// SPDX-License-Identifier: Apache-2.0
// What each constant of a model file is for, and how it stores what the
// checkpoint has in that place: asked once, by whoever compares weights,
// replays the graph or computes with the file's weights.
#ifndef VERIFY_TFLITE_MAPPING_MODEL_MAP_H_
#define VERIFY_TFLITE_MAPPING_MODEL_MAP_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "base/rotation.h"
#include "checkpoint/checkpoint.h"
#include "mapping/originals.h"
#include "mapping/roles.h"
#include "tflite/container.h"
#include "tflite/file.h"

namespace verify_tflite {

// A constant vector that a graph multiplies a product's input with, [inputs];
// in float64, too, for its inverse in the product's columns.
struct InputScale {
  std::vector<float> values;
  std::vector<double> wide;
};

// What a graph does to a product's input before the product, or to a row of a
// table after the lookup: nothing where null. The map owns both.
struct InputChange {
  const Rotation* rotation = nullptr;
  const InputScale* scale = nullptr;
  auto operator<=>(const InputChange&) const = default;
};

// How a constant may store what it is for.
struct Layouts {
  // The ways that a sample of rows agrees with, the usual one first; where no
  // way does, the nearest alone; empty where none has the constant's shape or
  // its numbers are of a type that is not read.
  std::vector<Original> ways;
  bool fits = false;  // as far as the sample shows
};

// One file that belongs to the model.
struct ModelFile {
  const tflite::File* file = nullptr;
  Roles roles;
  std::map<int32_t, InputScale> input_scales;  // by constant
};

class ModelMap {
 public:
  // Maps the model of `container` and the embedders that belong to it.
  // `checkpoint` must outlive this. Nothing runs. Throws Error when a file is
  // damaged or too large to follow.
  ModelMap(std::shared_ptr<const tflite::Container> container,
           const Checkpoint& checkpoint);
  // The same for files that are open; they must outlive this.
  ModelMap(std::span<const tflite::File* const> files,
           const Checkpoint& checkpoint);

  const Originals& originals() const { return originals_; }
  const Checkpoint& checkpoint() const { return originals_.checkpoint(); }
  // The model, and then its embedders.
  const std::deque<ModelFile>& files() const { return files_; }
  const tflite::File& model() const { return *files_.front().file; }
  // Null for files that were open.
  const std::shared_ptr<const tflite::Container>& container() const {
    return container_;
  }

  const tflite::Constant& ConstantOf(size_t file, const RoleUse& use) const;
  // What stands between the use and the file's other operators.
  InputChange ChangeOf(size_t file, const RoleUse& use) const;
  // Works the answer out when a use is first asked for. May be called from
  // several threads; the reference stays valid as long as the map.
  const Layouts& LayoutsOf(size_t file, const RoleUse& use) const;
  // The same, were the graph to multiply the product's input with `scale`.
  Layouts LayoutsWith(size_t file, const RoleUse& use,
                      const std::vector<double>& scale) const;

  // What rows of an original are of the outputs of `role`: one range of outputs
  // of one part, and where the checkpoint has them. Empty where a row is of no
  // part of it.
  struct Place {
    Part part = Part::kQ;  // kQ, kK, kV, kGate, kUp; else that of `role`
    int64_t first = 0;     // output of that part
    Rows rows;
  };
  std::vector<Place> PlacesOf(const Original& original,
                              const WeightRole& role) const;
  // The checkpoint's rows for a role; null where it has none.
  const Rows* Find(const WeightRole& role) const;

 private:
  void Add(const tflite::File& file);
  std::vector<Original> WaysOf(size_t file, const RoleUse& use) const;
  std::optional<Original> Interleaved(const Original& original,
                                      const WeightRole& role) const;

  std::shared_ptr<const tflite::Container> container_;
  Originals originals_;
  std::deque<ModelFile> files_;
  using Key = std::tuple<size_t, int32_t, WeightRole, bool, bool, InputChange>;
  mutable std::mutex mutex_;
  mutable std::map<Key, Layouts> layouts_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_MODEL_MAP_H_
