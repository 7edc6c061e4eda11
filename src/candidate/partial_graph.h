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
#include "tflite/interface.h"
#include "tflite/taps.h"

namespace verify_tflite {

class PartialGraph {
 public:
  // Throws Error where the runtime takes the part not, or computes other shapes
  // than the file declares. `model` must outlive this.
  PartialGraph(const Model& model, const tflite::GraphPart& part);
  ~PartialGraph();
  PartialGraph(PartialGraph&&) noexcept;
  PartialGraph& operator=(PartialGraph&&) noexcept;

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
