#include "candidate/graph.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

namespace verify_tflite {
namespace {

using Use = WeightGroup::Use;
using Scales = WeightGroup::Scales;

Scales ScalesOf(const tflite::Tensor& tensor) {
  const auto& q = tensor.quantization;
  if (!q) return Scales::kNone;
  if (q->details ==
      tflite::schema::QuantizationDetails::kBlockwiseQuantization) {
    return Scales::kPerBlock;
  }
  if (q->details != tflite::schema::QuantizationDetails::kNone ||
      q->scales.size() == 0) {
    return Scales::kNone;
  }
  return q->scales.size() == 1 ? Scales::kPerTensor : Scales::kPerChannel;
}

// By the type of the activations, the operator's first input.
Use ProductUse(const tflite::Graph& graph, const tflite::Op& op) {
  if (op.inputs.empty() || op.inputs[0] < 0) return Use::kTable;
  switch (graph.tensors[op.inputs[0]].type) {
    case ElementType::kFloat32:
      return Use::kDynamic;
    case ElementType::kInt16:
      return Use::kStatic16;
    default:
      return Use::kStatic;
  }
}

Use UseOf(const tflite::Graph& graph, const tflite::Op& op, Scales scales) {
  switch (op.code) {
    case tflite::kOpDequantize:
      return Use::kDequantized;
    case tflite::kOpEmbeddingLookup:
      return Use::kLookup;
    case tflite::kOpFullyConnected:
    case tflite::kOpBatchMatmul:
      return scales == Scales::kNone ? Use::kPlain : ProductUse(graph, op);
    default:
      return Use::kTable;
  }
}

WeightGroup GroupOf(const tflite::Graph& graph, const tflite::Op& op,
                    const tflite::Tensor& tensor) {
  const int bits = BitsOf(tensor.type);
  WeightGroup group{.type = std::string(NameOf(tensor.type))};
  group.bytes = static_cast<int64_t>(tensor.data.size());
  if (bits > 0) group.elements = 8 * group.bytes / bits;
  group.scales = ScalesOf(tensor);
  if (group.scales == Scales::kPerBlock) {
    group.block_size = tensor.quantization->block_size;
  }
  group.use = UseOf(graph, op, group.scales);
  return group;
}

// By address: a buffer that several subgraphs share counts once.
using Constants = std::unordered_map<const void*, WeightGroup>;

void AddConstants(const tflite::Graph& graph, const tflite::Op& op,
                  Constants& constants) {
  for (const int32_t input : op.inputs) {
    if (input < 0) continue;  // an optional input left out
    const tflite::Tensor& tensor = graph.tensors[input];
    if (tensor.data.empty() || !tensor.has_rank) continue;
    const auto [entry, is_new] = constants.try_emplace(tensor.data.data());
    // A tied embedding is read by a lookup and by a product, which says more.
    if (is_new || entry->second.use == Use::kLookup ||
        entry->second.use == Use::kTable) {
      entry->second = GroupOf(graph, op, tensor);
    }
  }
}

}  // namespace

OwnedModel LoadModel(const std::string& path,
                     std::span<const std::byte> bytes) {
  const auto& lib = Runtime::Get();
  OwnedModel model;
  Call(path + ": the file is damaged or incomplete",
       lib.LiteRtCreateModelFromBuffer, lib.environment,
       static_cast<const void*>(bytes.data()), bytes.size(), model.receive());
  return model;
}

std::vector<WeightGroup> ReadWeightGroups(const tflite::File& file) {
  Constants constants;
  for (const tflite::Graph& graph : file.graphs) {
    for (const tflite::Op& op : graph.ops) AddConstants(graph, op, constants);
  }
  std::vector<WeightGroup> each;
  for (auto& [address, constant] : constants) {
    each.push_back(std::move(constant));
  }
  return SumOfKinds(each);
}

}  // namespace verify_tflite
