// Ways through one signature's graph: what a tensor is a view of, and which
// products stand before and behind it.
#ifndef VERIFY_TFLITE_MAPPING_GRAPH_WALK_H_
#define VERIFY_TFLITE_MAPPING_GRAPH_WALK_H_

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "mapping/rotations.h"
#include "tflite/file.h"

namespace verify_tflite {

// Operators as their indices in tflite::Graph::ops.
using OpSet = std::set<int32_t>;

bool Contains(const OpSet& set, int32_t op);

// It moves or converts what it reads and computes nothing.
bool PassesOn(const tflite::Op& op);

// Answers questions about a graph; tensors, operators and constants are
// indices, -1 where there is none. Every walk is counted: a file made to waste
// time ends in an Error. Keeps references to `graph` and `rotations`.
class GraphWalk {
 public:
  // A tensor at the other side of a rotation, or the tensor itself and -1.
  struct Rotated {
    int32_t tensor = -1;
    int32_t rotation = -1;  // of Rotations
    int32_t op = -1;        // that rotates
  };

  // A tensor before it is multiplied by a constant vector, or the tensor itself
  // and -1.
  struct Scaled {
    int32_t tensor = -1;
    int32_t vector = -1;  // constant
    int32_t op = -1;
  };

  // `rotation_of` as FindRotations gives it.
  GraphWalk(const tflite::Graph& graph, const Rotations& rotations,
            std::vector<int32_t> rotation_of);

  const tflite::Graph& graph() const { return graph_; }
  // Operators that multiply with a constant matrix and do not only rotate.
  const OpSet& products() const { return products_; }

  const tflite::Tensor& TensorAt(int32_t index) const {
    return graph_.tensors[index];
  }
  int64_t Width(int32_t tensor) const;
  int64_t Elements(int32_t tensor) const;
  int64_t OutputWidth(int32_t op) const;

  // The tensor that `tensor` is a view or a conversion of.
  int32_t Root(int32_t tensor) const;
  // The float tensor that `tensor` is turned into, where that is all it is for.
  int32_t Dequantised(int32_t tensor) const;
  int32_t ConstantOf(int32_t tensor) const;
  // The constant that the operator multiplies with as a matrix.
  int32_t WeightOf(int32_t op) const;

  // The operator that gives what `tensor` is a view of.
  int32_t ProducerBehindViews(int32_t tensor) const;
  // As wide as what it scales.
  bool IsVector(int32_t vector, int32_t values) const;
  // Of an operator `code` on values and a constant vector as wide: the two
  // tensors.
  std::pair<int32_t, int32_t> VectorOperand(int32_t op, int32_t code) const;

  // What gives `tensor` when it is multiplied by a vector that is no norm's:
  // behind a norm, whose own vector stands before it, or, `without_norm`, where
  // no norm can be.
  Scaled BeforeScale(int32_t tensor, bool without_norm) const;
  // What is rotated, block by block of its rows, to give `tensor`; not by an
  // operator of `except`.
  Rotated BeforeRotation(int32_t tensor, const OpSet& except) const;
  // What `tensor` gives where it is for nothing but to be rotated.
  Rotated RotatedBack(int32_t tensor) const;

  // The input that the operator writes into a cache, its output `output`.
  int32_t WrittenTo(int32_t op, int32_t output) const;

  // The products nearest before a tensor on all ways to it.
  OpSet ProductsBefore(int32_t tensor) const;
  // The products nearest behind a tensor, and the number of operators between.
  OpSet ProductsBehind(int32_t tensor, size_t* between = nullptr) const;
  OpSet ProductsBehindOp(int32_t op, size_t* between = nullptr) const;
  // Whether `target` depends on `tensor` other than through a product.
  bool Reaches(int32_t tensor, int32_t target) const;
  // Whether `tensor` depends on an output of `lookups` or on an input of
  // embeddings other than through a product.
  bool FromEmbedding(int32_t tensor, const OpSet& lookups) const;

  // Takes `tensor` and then, each once, the tensors that `next(tensor, open)`
  // puts on `open`, which it clears to end.
  template <typename Next>
  void Follow(int32_t tensor, Next next) const {
    std::set<int32_t> seen;
    std::vector<int32_t> open = {tensor};
    while (!open.empty()) {
      const int32_t t = open.back();
      open.pop_back();
      CountVisits();
      if (t >= 0 && seen.insert(t).second) next(t, open);
    }
  }

  // Throws Error where more is looked at than any sound graph needs.
  void CountVisits(size_t count = 1) const;

 private:
  bool EndsNorm(int32_t op) const;
  bool AreBlocks(int32_t a, int32_t b, int32_t rotation) const;
  std::vector<int32_t> Sources(int32_t op, int32_t output) const;

  const tflite::Graph& graph_;
  const Rotations& rotations_;
  std::vector<int32_t> rotation_of_;  // by operator
  OpSet products_;
  mutable int64_t visits_left_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_GRAPH_WALK_H_
