// SPDX-License-Identifier: Apache-2.0
// What the tensors of a checkpoint are called, and how they lie in the file.
#ifndef VERIFY_TFLITE_CHECKPOINT_WEIGHT_NAMES_H_
#define VERIFY_TFLITE_CHECKPOINT_WEIGHT_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/model_config.h"
#include "checkpoint/weight_role.h"

namespace verify_tflite {

// The module of a part, seen from the decoder's; "{}" is the number of a layer,
// a second one that of an expert.
// What no file calls its own has no row: q, k and v of a fused product.
struct PartName {
  Part part;
  std::string_view name;  // "layers.{}.self_attn.q_proj"
};

// What stands before the modules of a decoder and before its LM head.
struct NamePrefix {
  std::string_view decoder;  // "model."
  std::string_view head;     // usually nothing
};

// Rows of one tensor that are those of one part.
struct PartRows {
  Part part;
  int64_t first = 0;
  int64_t count = 0;
  // Not 0: they lie in runs of so many rows, `stride` rows apart.
  int64_t run = 0;
  int64_t stride = 0;
  int32_t expert = -1;  // as WeightRole has it
};

// The names of one family, in both directions.
class WeightNames {
 public:
  // `grouped_qkv`: in the fused q, k and v, each key head's queries, its key
  // and its value lie together.
  WeightNames(std::vector<PartName> parts, NamePrefix prefix, bool grouped_qkv)
      : parts_(std::move(parts)), prefix_(prefix), grouped_qkv_(grouped_qkv) {}

  // Returns whether checkpoints of the family have a tensor of this part.
  bool Has(Part part) const { return Find(part) != nullptr; }
  // Returns the tensor's name: "model.layers.2.mlp.up_proj.bias". REQUIRES:
  // Has(role.part).
  std::string Of(const WeightRole& role) const;
  // Returns what the tensor `name` is for, whatever stands before the decoder's
  // modules; nothing for one that is no part of the text model. That layer need
  // not exist.
  std::optional<WeightRole> RoleOf(std::string_view name) const;

  // Returns the parts that the `rows` rows of the tensor of `role` are, in the
  // file's order: one, but of a fused product and of all experts. Of a tensor of
  // three dimensions, rows are those of its matrices.
  std::vector<PartRows> RowsOf(const WeightRole& role,
                               const ModelConfig& config, int64_t rows) const;

  bool grouped_qkv() const { return grouped_qkv_; }
  const std::vector<PartName>& parts() const { return parts_; }

 private:
  const PartName* Find(Part part) const;

  std::vector<PartName> parts_;
  NamePrefix prefix_;
  bool grouped_qkv_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_WEIGHT_NAMES_H_
