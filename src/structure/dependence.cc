#include "structure/dependence.h"

#include <algorithm>
#include <string_view>

namespace verify_tflite {
namespace {

// Names of inputs: docs/signatures.md.
DependsOn DependenceOn(std::string_view name) {
  if (name == "input_pos" || name == "positions") return DependsOn::kPositions;
  const bool mask = name.find("mask") != std::string_view::npos;
  return mask || name == "param_tensor" ? DependsOn::kMasks
                                        : DependsOn::kValues;
}

}  // namespace

int32_t PositionsInput(const tflite::Graph& graph) {
  int32_t result = -1;
  for (const auto& [name, tensor] : graph.inputs) {
    if (DependenceOn(name) == DependsOn::kPositions) result = tensor;
  }
  return result;
}

std::vector<DependsOn> DependenceOfInputs(const tflite::Graph& graph) {
  std::vector<DependsOn> result(graph.input_tensors.size(), DependsOn::kValues);
  for (size_t i = 0; i < result.size(); ++i) {
    for (const auto& [name, tensor] : graph.inputs) {
      if (tensor == graph.input_tensors[i]) result[i] = DependenceOn(name);
    }
  }
  return result;
}

Dependence DependenceOf(const tflite::Graph& graph,
                        const std::vector<DependsOn>& inputs) {
  Dependence on;
  on.tensors.resize(graph.tensors.size(), DependsOn::kNothing);
  for (size_t i = 0; i < graph.input_tensors.size(); ++i) {
    const int32_t tensor = graph.input_tensors[i];
    if (tensor >= 0) {
      on.tensors[static_cast<size_t>(tensor)] =
          i < inputs.size() ? inputs[i] : DependsOn::kValues;
    }
  }
  on.ops.resize(graph.ops.size(), DependsOn::kNothing);
  for (size_t k = 0; k < graph.ops.size(); ++k) {
    for (const int32_t input : graph.ops[k].inputs) {
      if (input < 0) continue;
      on.ops[k] = std::max(on.ops[k], on.tensors[static_cast<size_t>(input)]);
    }
    for (const int32_t output : graph.ops[k].outputs) {
      if (output >= 0) on.tensors[static_cast<size_t>(output)] = on.ops[k];
    }
  }
  return on;
}

}  // namespace verify_tflite
