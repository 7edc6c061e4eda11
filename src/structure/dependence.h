// What the tensors of a graph depend on.
#ifndef VERIFY_TFLITE_STRUCTURE_DEPENDENCE_H_
#define VERIFY_TFLITE_STRUCTURE_DEPENDENCE_H_

#include <cstdint>
#include <vector>

#include "tflite/file.h"

namespace verify_tflite {

// Of several inputs the largest.
enum class DependsOn {
  kNothing,    // constants alone
  kPositions,  // the signature's positions
  kMasks,      // masks that are inputs, and a ring's param_tensor
  kValues,     // tokens, embeddings, KV caches, and whatever is not known
};

// The signature's input of positions; -1: there is none.
int32_t PositionsInput(const tflite::Graph& graph);

// As graph.input_tensors, by the signature's names.
std::vector<DependsOn> DependenceOfInputs(const tflite::Graph& graph);

struct Dependence {
  std::vector<DependsOn> tensors, ops;  // as the graph's
};

// `inputs` is as graph.input_tensors.
Dependence DependenceOf(const tflite::Graph& graph,
                        const std::vector<DependsOn>& inputs);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_DEPENDENCE_H_
