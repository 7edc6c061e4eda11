#include "mapping/graph_walk.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

// Its outputs are its first two inputs, each written into a cache.
constexpr std::string_view kCacheUpdate = "cache_update";

// Tensors and operators looked at in one graph. A model of 30 layers takes
// 0.28 million, measured; it grows with their square at most. A file made to
// waste time has more.
constexpr int64_t kMostVisits = 30'000'000;

bool Reshapes(const tflite::Op& op) {
  return op.code == tflite::kOpReshape || op.code == tflite::kOpSqueeze ||
         op.code == tflite::kOpExpandDims;
}

bool IsCacheUpdate(const tflite::Op& op) {
  return op.composite.find(kCacheUpdate) != std::string::npos &&
         op.outputs.size() == 2 && op.inputs.size() >= 2;
}

}  // namespace

bool Contains(const OpSet& set, int32_t op) { return set.count(op) > 0; }

bool PassesOn(const tflite::Op& op) {
  return Reshapes(op) || op.code == tflite::kOpDequantize ||
         op.code == tflite::kOpCast;
}

GraphWalk::GraphWalk(const tflite::Graph& graph, const Rotations& rotations,
                     std::vector<int32_t> rotation_of)
    : graph_(graph),
      rotations_(rotations),
      rotation_of_(std::move(rotation_of)),
      visits_left_(kMostVisits) {
  for (size_t i = 0; i < graph_.ops.size(); ++i) {
    const auto op = static_cast<int32_t>(i);
    if (WeightOf(op) >= 0 && rotation_of_[i] < 0) products_.insert(op);
  }
}

int64_t GraphWalk::Width(int32_t tensor) const {
  const auto& shape = TensorAt(tensor).shape;
  return shape.empty() ? -1 : shape.back();
}

int64_t GraphWalk::Elements(int32_t tensor) const {
  int64_t product = 1;
  for (const int64_t size : TensorAt(tensor).shape) product *= size;
  return product;
}

int64_t GraphWalk::OutputWidth(int32_t op) const {
  const auto& outputs = graph_.ops[op].outputs;
  if (outputs.empty() || outputs[0] < 0) return -1;
  const auto& shape = TensorAt(outputs[0]).shape;
  return shape.empty() ? -1 : shape.back();
}

int32_t GraphWalk::Root(int32_t tensor) const {
  while (tensor >= 0) {
    CountVisits();
    const int32_t producer = TensorAt(tensor).producer;
    if (producer < 0 || !PassesOn(graph_.ops[producer]) ||
        graph_.ops[producer].inputs.empty()) {
      break;
    }
    const int32_t next = graph_.ops[producer].inputs[0];
    // Operators stand in the order of execution; else this might not end.
    if (next < 0 || TensorAt(next).producer >= producer) break;
    tensor = next;
  }
  return tensor;
}

int32_t GraphWalk::Dequantised(int32_t tensor) const {
  while (tensor >= 0 && TensorAt(tensor).type != ElementType::kFloat32 &&
         TensorAt(tensor).consumers.size() == 1) {
    const int32_t consumer = TensorAt(tensor).consumers[0];
    const tflite::Op& op = graph_.ops[consumer];
    if (!PassesOn(op) || op.outputs.empty() || op.outputs[0] < 0 ||
        TensorAt(op.outputs[0]).producer != consumer ||
        op.outputs[0] == tensor) {
      break;
    }
    CountVisits();
    tensor = op.outputs[0];
  }
  return tensor;
}

int32_t GraphWalk::ConstantOf(int32_t tensor) const {
  if (tensor < 0) return -1;
  return TensorAt(Root(tensor)).constant;
}

int32_t GraphWalk::WeightOf(int32_t index) const {
  const tflite::Op& op = graph_.ops[index];
  if (op.code != tflite::kOpFullyConnected &&
      op.code != tflite::kOpBatchMatmul && op.code != tflite::kOpConv2d) {
    return -1;
  }
  return op.inputs.size() < 2 ? -1 : ConstantOf(op.inputs[1]);
}

int32_t GraphWalk::ProducerBehindViews(int32_t tensor) const {
  while (tensor >= 0) {
    CountVisits();
    const int32_t producer = TensorAt(tensor).producer;
    if (producer < 0 || !Reshapes(graph_.ops[producer])) return producer;
    if (graph_.ops[producer].inputs.empty()) return -1;
    const int32_t next = graph_.ops[producer].inputs[0];
    if (next < 0 || TensorAt(next).producer >= producer) return -1;
    tensor = next;
  }
  return -1;
}

bool GraphWalk::IsVector(int32_t vector, int32_t values) const {
  const auto& a = TensorAt(vector).shape;
  if (values < 0 || a.empty()) return false;
  const auto& b = TensorAt(values).shape;
  if (b.empty() || a.back() != b.back() || a.back() <= 1) return false;
  return std::all_of(a.begin(), a.end() - 1, [](int32_t s) { return s == 1; });
}

std::pair<int32_t, int32_t> GraphWalk::VectorOperand(int32_t index,
                                                     int32_t code) const {
  if (index < 0) return {-1, -1};
  const tflite::Op& op = graph_.ops[index];
  if (op.code != code || op.inputs.size() != 2) return {-1, -1};
  for (const int side : {0, 1}) {
    const int32_t vector = op.inputs[side], values = op.inputs[1 - side];
    if (values < 0 || TensorAt(values).producer >= index ||
        ConstantOf(vector) < 0 || ConstantOf(values) >= 0 ||
        !IsVector(Root(vector), values)) {
      continue;
    }
    return {values, vector};
  }
  return {-1, -1};
}

GraphWalk::Scaled GraphWalk::BeforeScale(int32_t tensor,
                                         bool without_norm) const {
  const Scaled none = {tensor, -1, -1};
  const int32_t op = ProducerBehindViews(tensor);
  const auto [values, vector] = VectorOperand(op, tflite::kOpMul);
  if (values < 0) return none;
  if (!without_norm && !EndsNorm(ProducerBehindViews(values))) return none;
  return {values, ConstantOf(vector), op};
}

GraphWalk::Rotated GraphWalk::BeforeRotation(int32_t tensor,
                                             const OpSet& except) const {
  const Rotated none = {tensor, -1, -1};
  if (tensor < 0) return none;
  int32_t rotation = -1, op = -1;
  int32_t t = tensor;
  while (true) {
    CountVisits();
    const int32_t producer = TensorAt(t).producer;
    if (producer < 0 || graph_.ops[producer].inputs.empty()) return none;
    if (op < 0 && rotation_of_[producer] >= 0 && !Contains(except, producer)) {
      op = producer;
      rotation = rotation_of_[producer];
    } else if (!Reshapes(graph_.ops[producer])) {
      return none;
    }
    const int32_t next = graph_.ops[producer].inputs[0];
    if (next < 0 || TensorAt(next).producer >= producer) return none;
    t = next;
    if (rotation >= 0 && AreBlocks(tensor, t, rotation)) {
      return {t, rotation, op};
    }
  }
}

GraphWalk::Rotated GraphWalk::RotatedBack(int32_t tensor) const {
  const Rotated none = {tensor, -1, -1};
  if (tensor < 0) return none;
  int32_t rotation = -1, rotated_by = -1;
  int32_t t = tensor;
  while (TensorAt(t).consumers.size() == 1) {
    CountVisits();
    const int32_t consumer = TensorAt(t).consumers[0];
    const tflite::Op& op = graph_.ops[consumer];
    if (rotated_by < 0 && rotation_of_[consumer] >= 0) {
      rotated_by = consumer;
      rotation = rotation_of_[consumer];
    } else if (!Reshapes(op)) {
      return none;
    }
    if (op.outputs.empty() || op.outputs[0] < 0 ||
        TensorAt(op.outputs[0]).producer != consumer || op.inputs[0] != t ||
        TensorAt(t).producer >= consumer) {
      return none;
    }
    t = op.outputs[0];
    if (rotation >= 0 && AreBlocks(tensor, t, rotation)) {
      return {t, rotation, rotated_by};
    }
  }
  return none;
}

bool GraphWalk::EndsNorm(int32_t index) const {
  if (index < 0) return false;
  const tflite::Op& op = graph_.ops[index];
  if (op.code == tflite::kOpStablehloComposite) {
    return op.composite.find("norm") != std::string::npos;
  }
  return VectorOperand(index, tflite::kOpMul).first >= 0 ||
         VectorOperand(index, tflite::kOpAdd).first >= 0;
}

bool GraphWalk::AreBlocks(int32_t a, int32_t b, int32_t rotation) const {
  const int64_t size = rotations_.at(rotation)->size();
  return Width(a) == Width(b) && Width(a) > 0 && Width(a) % size == 0;
}

int32_t GraphWalk::WrittenTo(int32_t index, int32_t output) const {
  const tflite::Op& op = graph_.ops[index];
  if (op.code == tflite::kOpDynamicUpdateSlice && op.inputs.size() > 1) {
    return op.inputs[1];
  }
  return IsCacheUpdate(op) ? Sources(index, output)[0] : -1;
}

// Inputs that an output depends on.
std::vector<int32_t> GraphWalk::Sources(int32_t index, int32_t output) const {
  const tflite::Op& op = graph_.ops[index];
  if (!IsCacheUpdate(op)) return op.inputs;
  return {op.inputs[op.outputs[0] == output ? 0 : 1]};
}

OpSet GraphWalk::ProductsBefore(int32_t tensor) const {
  OpSet found;
  Follow(tensor, [&](int32_t t, std::vector<int32_t>& open) {
    const int32_t producer = TensorAt(t).producer;
    if (producer < 0) return;
    if (Contains(products_, producer)) {
      found.insert(producer);
      return;
    }
    const std::vector<int32_t> sources = Sources(producer, t);
    CountVisits(sources.size());
    open.insert(open.end(), sources.begin(), sources.end());
  });
  return found;
}

OpSet GraphWalk::ProductsBehind(int32_t tensor, size_t* between) const {
  OpSet found, passed;
  Follow(tensor, [&](int32_t t, std::vector<int32_t>& open) {
    CountVisits(TensorAt(t).consumers.size());
    for (const int32_t consumer : TensorAt(t).consumers) {
      if (Contains(products_, consumer)) {
        found.insert(consumer);
      } else if (passed.insert(consumer).second) {
        const auto& outputs = graph_.ops[consumer].outputs;
        open.insert(open.end(), outputs.begin(), outputs.end());
      }
    }
  });
  if (between != nullptr) *between = passed.size();
  return found;
}

OpSet GraphWalk::ProductsBehindOp(int32_t op, size_t* between) const {
  const auto& outputs = graph_.ops[op].outputs;
  return outputs.empty() ? OpSet() : ProductsBehind(outputs[0], between);
}

bool GraphWalk::Reaches(int32_t tensor, int32_t target) const {
  bool found = false;
  Follow(tensor, [&](int32_t t, std::vector<int32_t>& open) {
    if (t == target) {
      found = true;
      open.clear();
      return;
    }
    CountVisits(TensorAt(t).consumers.size());
    for (const int32_t consumer : TensorAt(t).consumers) {
      if (Contains(products_, consumer)) continue;
      const auto& outputs = graph_.ops[consumer].outputs;
      open.insert(open.end(), outputs.begin(), outputs.end());
    }
  });
  return found;
}

bool GraphWalk::FromEmbedding(int32_t tensor, const OpSet& lookups) const {
  bool found = false;
  Follow(tensor, [&](int32_t t, std::vector<int32_t>& open) {
    const int32_t producer = TensorAt(t).producer;
    const bool is_input = std::any_of(
        graph_.inputs.begin(), graph_.inputs.end(),
        [&](const tflite::NamedTensor& input) {
          return input.second == t &&
                 std::string_view(input.first).starts_with("embeddings");
        });
    if (is_input || (producer >= 0 && Contains(lookups, producer))) {
      found = true;
      open.clear();
      return;
    }
    if (producer < 0 || Contains(products_, producer)) return;
    const auto& inputs = graph_.ops[producer].inputs;
    open.insert(open.end(), inputs.begin(), inputs.end());
  });
  return found;
}

void GraphWalk::CountVisits(size_t count) const {
  visits_left_ -= static_cast<int64_t>(count);
  if (visits_left_ >= 0) return;
  throw Error(
      "signature {}: its graph is too large to find out what its weights are "
      "for",
      Quote(graph_.signature));
}

}  // namespace verify_tflite
