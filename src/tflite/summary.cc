// SPDX-License-Identifier: Apache-2.0
#include "tflite/summary.h"

#include <fmt/format.h>

#include <set>

namespace verify_tflite::tflite {
namespace {

std::string HowQuantised(const Tensor& tensor) {
  const auto& q = tensor.quantization;
  if (!q) return "";
  if (q->details == schema::QuantizationDetails::kBlockwiseQuantization) {
    return fmt::format(" in blocks of {}", q->block_size);
  }
  if (q->details == schema::QuantizationDetails::kMultiAxisQuantization) {
    return " along several axes";
  }
  if (q->scales.size() == 0) return "";
  return q->scales.size() == 1 ? " per tensor" : " per channel";
}

void AddWeights(const Tensor& tensor, Summary& summary) {
  const auto bytes = static_cast<int64_t>(tensor.data.size());
  const std::string type(NameOf(tensor.type));
  Weights& weights = summary.weights[type + HowQuantised(tensor)];
  ++weights.tensors;
  weights.bytes += bytes;
  if (BitsOf(tensor.type) > 0) {
    weights.elements += bytes * 8 / BitsOf(tensor.type);
  }
  summary.weight_bytes[type] += bytes;
}

SignatureSpec SpecOf(const File& file, size_t index) {
  const Signature& signature = file.signatures[index];
  const Graph& graph = file.graphs[signature.graph];
  SignatureSpec spec{.name = signature.name, .index = index};
  for (const auto& [name, tensor] : signature.inputs) {
    spec.inputs.push_back(verify_tflite::SpecOf(graph, tensor, name));
  }
  for (const auto& [name, tensor] : signature.outputs) {
    spec.outputs.push_back(verify_tflite::SpecOf(graph, tensor, name));
  }
  return spec;
}

}  // namespace

Summary Summarize(const File& file) {
  Summary summary;
  summary.description = file.description;
  summary.version = file.version;
  summary.metadata = file.metadata;
  summary.subgraphs = static_cast<int64_t>(file.graphs.size());
  for (size_t i = 0; i < file.signatures.size(); ++i) {
    summary.signatures.push_back(SpecOf(file, i));
  }
  std::set<uint32_t> counted;  // buffers
  for (const Graph& graph : file.graphs) {
    for (const Op& op : graph.ops) {
      ++summary.ops[NameOf(op)];
      if (!op.composite.empty()) ++summary.composites[op.composite];
    }
    for (const Tensor& tensor : graph.tensors) {
      if (!tensor.data.empty() && counted.insert(tensor.buffer).second) {
        AddWeights(tensor, summary);
      }
    }
  }
  return summary;
}

}  // namespace verify_tflite::tflite
