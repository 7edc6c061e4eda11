// SPDX-License-Identifier: Apache-2.0
#include "structure/pad_mark.h"

#include <algorithm>
#include <cstring>

namespace verify_tflite {
namespace {

bool IsInput(const tflite::Graph& graph, int32_t tensor) {
  return tensor >= 0 && std::ranges::count(graph.input_tensors, tensor) > 0;
}

bool IsConstant(const tflite::Graph& graph, int32_t tensor) {
  return tensor < 0 ||
         graph.tensors[static_cast<size_t>(tensor)].constant >= 0 ||
         !graph.tensors[static_cast<size_t>(tensor)].data.empty();
}

bool Holds(const tflite::Graph& graph, int32_t tensor, int32_t number) {
  if (tensor < 0) return false;
  const tflite::Tensor& t = graph.tensors[static_cast<size_t>(tensor)];
  int32_t found = 0;
  if (t.type != ElementType::kInt32 || t.data.size() != sizeof(found)) {
    return false;
  }
  std::memcpy(&found, t.data.data(), sizeof(found));
  return found == number;
}

bool ComparesTokens(const tflite::Graph& graph, const tflite::Op& op,
                    int32_t pad) {
  if (op.code != tflite::kOpNotEqual || op.inputs.size() != 2) return false;
  return (IsInput(graph, op.inputs[0]) && Holds(graph, op.inputs[1], pad)) ||
         (IsInput(graph, op.inputs[1]) && Holds(graph, op.inputs[0], pad));
}

}  // namespace

PadMark::PadMark(const tflite::Graph& graph, std::optional<int32_t> pad_token) {
  if (!pad_token) return;
  std::set<int32_t> marks;                         // tensors
  for (size_t i = 0; i < graph.ops.size(); ++i) {  // in the order of execution
    const tflite::Op& op = graph.ops[i];
    const bool compares = ComparesTokens(graph, op, *pad_token);
    const bool from_marks =
        std::ranges::any_of(op.inputs,
                            [&](int32_t t) { return marks.contains(t); }) &&
        std::ranges::all_of(op.inputs, [&](int32_t t) {
          return marks.contains(t) || IsConstant(graph, t);
        });
    if (!compares && !from_marks) continue;
    marks.insert(op.outputs.begin(), op.outputs.end());
    if (compares || op.code == tflite::kOpCast) {
      ops_.insert(static_cast<int32_t>(i));
    }
  }
}

}  // namespace verify_tflite
