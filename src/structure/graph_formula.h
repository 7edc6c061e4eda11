// What operators on integers compute, by their formulas and without their
// rounding, and how far rounding may take it.
//
// A static recipe rounds what every operator gives to a step of the tensor's
// own, and cuts off what lies outside the tensor's range. Here the same
// operators compute in float64 from numbers that a run had in tensors before
// them, and keep apart what each of the three does to a number.
#ifndef VERIFY_TFLITE_STRUCTURE_GRAPH_FORMULA_H_
#define VERIFY_TFLITE_STRUCTURE_GRAPH_FORMULA_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "tflite/file.h"

namespace verify_tflite {

// A tensor's numbers, row-major.
struct Numbers {
  std::vector<int64_t> shape;
  // Of what is behind an operator that is not computed here, whose own inputs
  // are all known: `exact` and `clipped` are empty, and `error` is what comes
  // on top of what the operator gives.
  bool opaque = false;
  std::vector<double> exact;    // nothing rounded, nothing cut off
  std::vector<double> clipped;  // within the ranges of all tensors on the way
  // How far the runtime may be from `clipped`: a step of its tensor for each
  // operator that rounds, carried on by those behind it.
  std::vector<double> error;
  // A table of integers was read: its numbers are rounded themselves.
  bool rounded_table = false;
};

// The numbers that an integer tensor can hold.
struct TensorRange {
  double step = 0;
  double low = 0;
  double high = 0;
};

// Nothing for floats and constants.
std::optional<TensorRange> RangeOf(const tflite::Tensor& tensor);

class GraphFormula {
 public:
  // A tensor's numbers in the run; nothing where they were not recorded.
  using KnownFn = std::function<const std::vector<float>*(int32_t tensor)>;
  // Told what an operator of the graph (not of its composites) that rounds
  // gives, once for each evaluation.
  using RangeFn = std::function<void(int32_t tensor, const Numbers& numbers)>;

  // Both must outlive this.
  GraphFormula(const tflite::File& file, const tflite::Graph& graph)
      : file_(file), graph_(graph) {}

  // From what is known of the tensors before it, but not of itself. Nothing
  // where an operator between is none of those computed here.
  std::optional<Numbers> Evaluate(int32_t tensor, const KnownFn& known,
                                  const RangeFn& on_range = nullptr) const;

 private:
  const tflite::File& file_;
  const tflite::Graph& graph_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_GRAPH_FORMULA_H_
