// The checkpoint's tensors, by what they are for.
#ifndef VERIFY_TFLITE_MAPPING_ORIGINALS_H_
#define VERIFY_TFLITE_MAPPING_ORIGINALS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/rotation.h"
#include "checkpoint/checkpoint.h"
#include "mapping/roles.h"

namespace verify_tflite {

// Rows of a checkpoint's matrix; of a vector, elements.
struct Rows {
  const TensorView* tensor = nullptr;
  std::string name;
  int64_t first = 0;
  int64_t count = 0;
  int64_t cols = 1;
  // Not 0: they lie in runs of so many rows, `stride` rows apart.
  int64_t run = 0;
  int64_t stride = 0;

  int64_t At(int64_t row) const;  // row of the tensor
  // `size` rows from `from` on, which begin a run or lie within one.
  Rows Slice(int64_t from, int64_t size) const;
  std::vector<Rows> Runs() const;  // the same, each without a gap
  // Which row of these the first of `part` is, itself without a gap; -1 where
  // these do not hold all of it.
  int64_t IndexOf(const Rows& part) const;
};

// What a constant should hold: rows one after the other.
struct Original {
  std::string layout;  // "", or how several tensors make one
  std::vector<Rows> rows;
  double offset = 0;  // what a norm's weight is stored with: 1 + w
  double factor = 1;
  // A norm's weight without the 1, which the composite that reads it may add.
  bool composite_adds_one = false;
  // The router reads its input without that factor, and gives what it should.
  bool factor_of_input = false;
  // Of each column: the weight of a norm that was folded into the matrix behind
  // it, plus column_offset.
  const Rows* column_factor = nullptr;
  double column_offset = 0;
  // Not null: what the graph multiplies the product's input with, column by
  // column; the matrix has the inverse.
  const std::vector<double>* input_scale = nullptr;
  // Where not empty, the values themselves, and how far rounding in the order
  // of someone else's sums may take them from these.
  std::vector<float> computed = {}, computed_steps = {};
  // Of rows that are stored rotated, block by block: what the graph multiplies
  // the product's input with, or, `rotated_back`, the rows it looked up.
  const Rotation* rotation = nullptr;
  bool rotated_back = false;
  int64_t num_rows() const;
  // Rounded more than once, before it was stored.
  bool folded() const {
    return factor != 1 || column_factor != nullptr || input_scale != nullptr;
  }
  int64_t cols() const { return rows.empty() ? 0 : rows.front().cols; }
};

class Originals {
 public:
  // `checkpoint` must outlive this. Parts are recognised by its names.
  explicit Originals(const Checkpoint& checkpoint);

  // All ways to store what `role` needs, the usual one first; empty where the
  // checkpoint has no such tensor. Beside the tensor itself these are what
  // converters fold into it: the scale of attention into q (its root into q and
  // k), that of soft-capping or of the logits into the head, that of what is
  // added to the residual stream into o and down, the weights of a norm into
  // the product behind it.
  std::vector<Original> Of(const WeightRole& role) const;
  // Without what is folded in, which takes time to work out.
  std::vector<Original> Plain(const WeightRole& role) const;

  // Everything there is, for searches by content.
  const std::map<WeightRole, Rows>& all() const { return parts_; }
  // Names of tensors that are no part of the text model, or that are not known.
  const std::vector<std::string>& others() const { return others_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  bool has_head() const { return has_head_; }

  // `count` elements of row `row` from column `first` on, as float32 (float64
  // is rounded), offset, factor and rotation applied.
  static void Read(const Original& original, int64_t row, int64_t first,
                   int64_t count, float* out);

 private:
  static void ReadPlain(const Original& original, int64_t row, int64_t first,
                        int64_t count, float* out);
  static void ReadRotated(const Original& original, int64_t row, int64_t first,
                          int64_t count, float* out);
  void AddScaled(const WeightRole& role, std::vector<Original>& ways) const;
  void AddNormFolded(const WeightRole& role, std::vector<Original>& ways) const;
  const Rows* Find(const WeightRole& role) const;
  void AddOnes(int64_t size);

  void Add(const std::string& name, const TensorView& tensor);
  void AddPart(const WeightRole& role, const std::string& name,
               const TensorView& tensor, const PartRows& part);

  const Checkpoint& checkpoint_;
  std::map<WeightRole, Rows> parts_;
  // By size: weights of norms that have none.
  std::map<int64_t, std::pair<std::vector<float>, TensorView>> ones_;
  std::vector<std::string> others_;
  bool has_head_ = false;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_ORIGINALS_H_
