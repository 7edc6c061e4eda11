#include "mapping/rotations.h"

#include <bit>
#include <iterator>
#include <optional>

namespace verify_tflite {
namespace {

int64_t Width(const tflite::Graph& graph, int32_t tensor) {
  const auto& shape = graph.tensors[tensor].shape;
  return shape.empty() ? -1 : shape.back();
}

std::shared_ptr<const Rotation> Known(const Rotations& rotations,
                                      const std::optional<Rotation>& read) {
  if (!read) return nullptr;
  for (const auto& [index, known] : rotations) {
    if (known != nullptr && *known == *read) return known;
  }
  return std::make_shared<const Rotation>(*read);
}

// Of an operator made for it, which has no matrix.
int32_t OwnRotation(const tflite::File& file, const tflite::Graph& graph,
                    const tflite::Op& op, Rotations& rotations) {
  const auto rotation = Rotation::Sylvester(op.rotates);
  if (!rotation || op.inputs.size() != 1 || op.inputs[0] < 0 ||
      Width(graph, op.inputs[0]) % op.rotates != 0) {
    return -1;
  }
  const auto index =
      static_cast<int32_t>(std::ssize(file.constants) +
                           std::countr_zero(static_cast<uint64_t>(op.rotates)));
  const auto [entry, is_new] = rotations.try_emplace(index);
  if (is_new) entry->second = Known(rotations, rotation);
  return index;
}

// Of a product with a square matrix of float32.
int32_t ProductRotation(const tflite::File& file, const tflite::Graph& graph,
                        const tflite::Op& op, Rotations& rotations) {
  if (op.code != tflite::kOpFullyConnected || op.inputs.size() < 2 ||
      op.inputs[0] < 0 || op.inputs[1] < 0 ||
      (op.inputs.size() > 2 && op.inputs[2] >= 0)) {
    return -1;
  }
  const int32_t index = graph.tensors[op.inputs[1]].constant;
  if (index < 0) return -1;
  const tflite::Constant& constant = file.constants[index];
  if (constant.type != ElementType::kFloat32 || !constant.scales.empty() ||
      constant.shape.size() != 2 || constant.shape[0] != constant.shape[1] ||
      Width(graph, op.inputs[0]) != constant.shape[0]) {
    return -1;
  }
  const auto [entry, is_new] = rotations.try_emplace(index);
  if (is_new) {
    entry->second =
        Known(rotations, Rotation::From(constant.shape[0], constant.data));
  }
  return entry->second == nullptr ? -1 : index;
}

}  // namespace

std::vector<int32_t> FindRotations(const tflite::File& file,
                                   const tflite::Graph& graph,
                                   Rotations& rotations) {
  std::vector<int32_t> found;
  found.reserve(graph.ops.size());
  for (const tflite::Op& op : graph.ops) {
    found.push_back(op.rotates > 0
                        ? OwnRotation(file, graph, op, rotations)
                        : ProductRotation(file, graph, op, rotations));
  }
  return found;
}

}  // namespace verify_tflite
