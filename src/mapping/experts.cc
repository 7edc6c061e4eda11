// Mixtures of experts, each expert a branch of the graph.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "mapping/products.h"

namespace verify_tflite {
namespace {

// The one integer that a constant holds.
std::optional<int32_t> IntegerOf(const tflite::File& file,
                                 const GraphWalk& walk, int32_t tensor) {
  const int32_t index = walk.ConstantOf(tensor);
  if (index < 0) return std::nullopt;
  const tflite::Constant& constant = file.constants[index];
  int32_t number = 0;
  const bool narrow = constant.data.size() == sizeof(number);
  if (constant.elements() != 1 ||
      (!narrow && constant.data.size() != sizeof(int64_t)) ||
      constant.type_name.find("FLOAT") != std::string::npos) {
    return std::nullopt;
  }
  // The low half first; numbers of experts have no other.
  std::memcpy(&number, constant.data.data(), sizeof(number));
  return number < 0 ? std::nullopt : std::optional(number);
}

// The TOPK_V2 whose places `tensor` is a view of; -1: none.
int32_t ChoiceOf(const GraphWalk& walk, int32_t tensor) {
  const int32_t root = tensor < 0 ? -1 : walk.Root(tensor);
  const int32_t producer = root < 0 ? -1 : walk.TensorAt(root).producer;
  if (producer < 0) return -1;
  const tflite::Op& op = walk.graph().ops[producer];
  const bool places = op.code == tflite::kOpTopkV2 && op.outputs.size() == 2 &&
                      op.outputs[1] == root;
  return places ? producer : -1;
}

// The product that what follows from the comparison multiplies first.
void FindWeighted(const GraphWalk& walk, Expert& expert) {
  for (const int32_t output : walk.graph().ops[expert.use.equal].outputs) {
    walk.Follow(output, [&](int32_t t, std::vector<int32_t>& open) {
      for (const int32_t consumer : walk.TensorAt(t).consumers) {
        const tflite::Op& op = walk.graph().ops[consumer];
        if (Contains(walk.products(), consumer)) continue;
        if (op.code == tflite::kOpMul && op.inputs.size() == 2) {
          const int32_t other = op.inputs[op.inputs[0] == t ? 1 : 0];
          const int32_t product = walk.ProducerBehindViews(other);
          if (Contains(walk.products(), product)) {
            expert.down = product;
            expert.use.weight = t;
            open.clear();
            return;
          }
        }
        open.insert(open.end(), op.outputs.begin(), op.outputs.end());
      }
    });
    if (expert.down >= 0) return;
  }
}

std::optional<std::string> AddExpert(const GraphWalk& walk,
                                     const ExpertUse& use, Products& products) {
  Expert expert;
  expert.use = use;
  FindWeighted(walk, expert);
  const std::vector<tflite::Op>& ops = walk.graph().ops;
  const OpSet routers = walk.ProductsBefore(ops[use.choice].inputs[0]);
  Layer* layer =
      expert.down < 0 ? nullptr : LayerAt(products.layers, expert.down);
  if (layer == nullptr || routers.size() != 1 ||
      Contains(products.of_experts, expert.down)) {
    return fmt::format("what expert {} gives is not known", use.expert);
  }
  expert.use.layer = static_cast<int32_t>(layer - products.layers.data());
  expert.gate_up = walk.ProductsBefore(ops[expert.down].inputs[0]);
  const bool twice = std::ranges::any_of(
      layer->experts,
      [&](const Expert& other) { return other.use.expert == use.expert; });
  if (twice || expert.gate_up.empty() || expert.gate_up.size() > 2 ||
      (layer->router >= 0 && layer->router != *routers.begin())) {
    return fmt::format("layer {} has {}", expert.use.layer,
                       twice ? fmt::format("expert {} twice", use.expert)
                             : "experts of another form");
  }
  if (expert.gate_up.size() == 2) {
    OrderGateUp(walk, expert.gate_up, expert.gate, expert.up);
  }
  layer->router = *routers.begin();
  products.of_experts.insert(expert.gate_up.begin(), expert.gate_up.end());
  products.of_experts.insert({expert.down, layer->router});
  products.experts.push_back(expert.use);
  layer->experts.push_back(std::move(expert));
  return std::nullopt;
}

}  // namespace

std::optional<std::string> FindExperts(const tflite::File& file,
                                       const GraphWalk& walk,
                                       Products& products) {
  const std::vector<tflite::Op>& ops = walk.graph().ops;
  for (size_t i = 0; i < ops.size(); ++i) {
    const tflite::Op& op = ops[i];
    if (op.code != tflite::kOpEqual || op.inputs.size() != 2) continue;
    for (const int side : {0, 1}) {
      const auto number = IntegerOf(file, walk, op.inputs[side]);
      const int32_t choice = ChoiceOf(walk, op.inputs[1 - side]);
      if (!number || choice < 0) continue;
      const ExpertUse use = {-1, *number, -1, choice, static_cast<int32_t>(i)};
      if (const auto reason = AddExpert(walk, use, products)) return reason;
    }
  }
  return std::nullopt;
}

void FindSharedScales(const GraphWalk& walk, const Lookups& lookups,
                      Products& products) {
  for (Layer& layer : products.layers) {
    if (layer.router < 0) continue;
    const int32_t input = InputRoot(walk, lookups, layer.router);
    for (const int32_t op : walk.products()) {
      if (!Contains(products.of_experts, op) && walk.OutputWidth(op) == 1 &&
          InputRoot(walk, lookups, op) == input) {
        layer.shared_scale = op;
      }
    }
  }
}

}  // namespace verify_tflite
