// Some operators of a signature's graph, run alone by the runtime itself: what
// depends on a few inputs only can be computed for all values of these in
// milliseconds, whatever the size of the model.
#ifndef VERIFY_TFLITE_CANDIDATE_PARTIAL_GRAPH_H_
#define VERIFY_TFLITE_CANDIDATE_PARTIAL_GRAPH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "candidate/model.h"
#include "candidate/signatures.h"
#include "candidate/tap.h"

namespace verify_tflite {

// Tensors and operators are indices in the signature's graph.
struct GraphPart {
  std::string signature;
  std::vector<int32_t> ops;      // ascending; all that `outputs` need
  std::vector<int32_t> inputs;   // of the signature's own
  std::vector<int32_t> outputs;  // each computed by one of `ops`, once
};

// What turns a model into one whose signature is that part: lists of operators,
// inputs and outputs are shortened where they stand, so that nothing grows and
// files of any size will do. Pure. Throws Error that begins with `what` where
// the file is damaged, or where the part has more outputs than the signature.
TapPatch PlanPart(std::span<const std::byte> model, const std::string& what,
                  const GraphPart& part);

class PartialGraph {
 public:
  // Throws Error where the runtime takes the part not, or computes other shapes
  // than the file declares. `model` must outlive this.
  PartialGraph(const Model& model, const GraphPart& part);
  ~PartialGraph();
  PartialGraph(PartialGraph&&) noexcept;
  PartialGraph& operator=(PartialGraph&&) noexcept;

  // How many outputs a part of the signature may have.
  static size_t MaxOutputs(const Model& model, const std::string& signature);

  // As part.inputs and part.outputs.
  const std::vector<TensorSpec>& inputs() const;
  const std::vector<TensorSpec>& outputs() const;

  // Inputs are zero at first. T must be as wide as the type.
  template <typename T>
  std::span<T> Input(size_t index) {
    const auto bytes = InputBytes(index);
    return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
  // Of the last run. FLOAT32, INT32 and BOOL alike as numbers, INT8 and
  // INT16 with one scale as what they stand for.
  std::vector<double> Output(size_t index) const;

  // Throws Error when the runtime fails.
  void Run();

 private:
  std::span<std::byte> InputBytes(size_t index);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_PARTIAL_GRAPH_H_
