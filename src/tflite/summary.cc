// SPDX-License-Identifier: Apache-2.0
#include "tflite/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

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

// The class of the model that the first module of transformers in `name` is of:
// "LlamaForCausalLM"; empty where it is none.
std::string ModelClassIn(std::string_view name) {
  constexpr std::string_view kPackage = "transformers.models.";
  const size_t at = name.find(kPackage);
  if (at == std::string_view::npos) return "";
  // "transformers.models.llama.modeling_llama.LlamaForCausalLM_model/…"
  const std::string_view path = name.substr(at, name.find('/', at) - at);
  for (const std::string_view end :
       {"ForCausalLM", "ForConditionalGeneration"}) {
    const size_t found = path.find(end);
    if (found == std::string_view::npos) continue;
    const size_t begin = path.rfind('.', found) + 1;
    return std::string(path.substr(begin, found + end.size() - begin));
  }
  return "";
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

std::string ConvertedBy(const File& file) {
  constexpr std::string_view kGenerative = "litert_torch.generative.";
  constexpr std::string_view kExportHf = "litert_torch.generative.export_hf.";
  bool generative = false, export_hf = false;
  std::string model;
  for (const Graph& graph : file.graphs) {
    for (const Tensor& tensor : graph.tensors) {
      const std::string_view name = tensor.name;
      generative |= name.find(kGenerative) != std::string_view::npos;
      export_hf |= name.find(kExportHf) != std::string_view::npos;
      if (model.empty()) model = ModelClassIn(name);
      if (export_hf && !model.empty()) {
        return fmt::format("litert-torch's export_hf, from transformers' {}",
                           model);
      }
    }
  }
  if (export_hf) return "litert-torch's export_hf";
  return generative ? "litert-torch's classic converter" : "";
}

}  // namespace verify_tflite::tflite
