// SPDX-License-Identifier: Apache-2.0
#include "tflite/signature_faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

namespace verify_tflite {
namespace {

using tflite::Graph;
using tflite::Op;

TensorSpec Declared(const Graph& graph, int32_t tensor,
                    const std::string& name) {
  TensorSpec spec = SpecOf(graph, tensor, name);
  const auto& shape = graph.tensors[tensor].shape;
  spec.dims.assign(shape.begin(), shape.end());
  return spec;
}

// The operator that computes a tensor; null where none does.
const Op* ProducerOf(const Graph& graph, int32_t tensor) {
  const int32_t op = graph.tensors[tensor].producer;
  return op < 0 ? nullptr : &graph.ops[op];
}

// An operator's first input that is not left out; -1 where there is none.
int32_t FirstInput(const Op& op) {
  const auto first = std::ranges::find_if(
      op.inputs, [](int32_t tensor) { return tensor >= 0; });
  return first == op.inputs.end() ? -1 : *first;
}

// The nearest of `unnamed` that is computed from the tensor named: a writer
// that puts operators behind an output makes short ways.
void Match(const Graph& graph, const std::set<int32_t>& unnamed,
           SignatureFault& fault) {
  constexpr int kMaxSteps = 8;
  const auto named = static_cast<int32_t>(fault.tensor);
  int nearest = kMaxSteps;
  for (const int32_t end : unnamed) {
    std::vector<int32_t> reached = {end};
    for (int step = 1; step < nearest; ++step) {
      std::vector<int32_t> next;
      for (const int32_t tensor : reached) {
        const Op* made = ProducerOf(graph, tensor);
        if (made == nullptr) continue;
        std::ranges::copy_if(made->inputs, std::back_inserter(next),
                             [](int32_t input) { return input >= 0; });
      }
      std::ranges::sort(next);
      next.erase(std::ranges::unique(next).begin(), next.end());
      reached = std::move(next);
      if (std::ranges::find(reached, named) == reached.end()) continue;
      nearest = step;
      fault.graphs = Declared(graph, end, graph.tensors[end].name);
      fault.graphs_tensor = static_cast<size_t>(end);
      fault.made_by = NameOf(*ProducerOf(graph, end));
      break;
    }
  }
}

void Compare(const tflite::Signature& signature, const Graph& graph,
             bool outputs, const std::string& file,
             std::vector<SignatureFault>& faults) {
  const auto& list = outputs ? graph.output_tensors : graph.input_tensors;
  const std::set<int32_t> ends(list.begin(), list.end());
  std::set<int32_t> unnamed = ends;
  unnamed.erase(-1);
  const auto& names = outputs ? signature.outputs : signature.inputs;
  for (const auto& [name, tensor] : names) unnamed.erase(tensor);
  for (const auto& [name, tensor] : names) {
    if (ends.contains(tensor)) continue;
    SignatureFault fault;
    fault.file = file;
    fault.signature = signature.name;
    fault.is_output = outputs;
    fault.named = Declared(graph, tensor, name);
    fault.tensor = static_cast<size_t>(tensor);
    Match(graph, unnamed, fault);
    faults.push_back(std::move(fault));
  }
}

void Append(std::vector<SignatureFault> more,
            std::vector<SignatureFault>& faults) {
  faults.insert(faults.end(), std::make_move_iterator(more.begin()),
                std::make_move_iterator(more.end()));
}

}  // namespace

std::vector<SignatureFault> FindSignatureFaults(const tflite::File& file,
                                                const std::string& name) {
  std::vector<SignatureFault> faults;
  for (const tflite::Signature& signature : file.signatures) {
    const Graph& graph = file.graphs[signature.graph];
    Compare(signature, graph, false, name, faults);
    Compare(signature, graph, true, name, faults);
  }
  return faults;
}

std::vector<SignatureFault> FindSignatureFaults(
    const tflite::Container& container) {
  std::vector<SignatureFault> faults;
  for (const tflite::Part& part : container.parts()) {
    if (!tflite::IsTflite(part.bytes())) continue;
    Append(FindSignatureFaults(part.file(), part.name()), faults);
  }
  return faults;
}

double AngleStep(const tflite::File& file) {
  double largest = 0;
  for (const Graph& graph : file.graphs) {
    for (const Op& op : graph.ops) {
      if (op.code != tflite::kOpCos && op.code != tflite::kOpSin) continue;
      int32_t angles = FirstInput(op);
      if (angles < 0) continue;
      const Op* before = ProducerOf(graph, angles);
      if (before != nullptr && before->code == tflite::kOpDequantize &&
          FirstInput(*before) >= 0) {
        angles = FirstInput(*before);
      }
      const TensorSpec spec = SpecOf(graph, angles, "");
      if (!IsQuantised(spec)) continue;
      largest = std::max(largest, static_cast<double>(spec.scale->scale));
    }
  }
  return largest;
}

}  // namespace verify_tflite
