// SPDX-License-Identifier: Apache-2.0
#include "structure/pad_mark.h"

#include <algorithm>

#include "tflite/interface.h"

namespace verify_tflite {
namespace {

bool IsConstant(const tflite::Graph& graph, int32_t tensor) {
  return tensor < 0 ||
         graph.tensors[static_cast<size_t>(tensor)].constant >= 0 ||
         !graph.tensors[static_cast<size_t>(tensor)].data.empty();
}

bool ComparesTokens(const tflite::Graph& graph, const tflite::Op& op,
                    int32_t pad) {
  return std::ranges::any_of(graph.input_tensors, [&](int32_t input) {
    return ComparedToken(graph, op, input) == pad;
  });
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
