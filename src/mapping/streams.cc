// Several residual streams of one, as Gemma 3n has them: AltUp and Laurel.
#include <algorithm>

#include "mapping/products.h"

namespace verify_tflite {
namespace {

// The product behind `op` that reads nothing else; -1: there is none, or others
// read it, too.
int32_t OnlyBehind(const GraphWalk& walk, int32_t op) {
  const OpSet behind = walk.ProductsBehindOp(op);
  if (behind.size() != 1) return -1;
  const int32_t next = *behind.begin();
  const OpSet before = walk.ProductsBefore(walk.graph().ops[next].inputs[0]);
  return before == OpSet{op} ? next : -1;
}

// Two products beside attention, of what that reads.
void FindLaurels(const GraphWalk& walk, const Lookups& lookups,
                 Products& products) {
  for (Layer& layer : products.layers) {
    const int32_t input =
        InputRoot(walk, lookups, layer.k >= 0 ? layer.k : layer.q);
    for (const int32_t op : walk.products()) {
      if (Contains(products.attention, op) ||
          InputRoot(walk, lookups, op) != input) {
        continue;
      }
      const int32_t next = OnlyBehind(walk, op);
      if (next < 0 || Contains(products.outputs, next)) continue;
      layer.laurel_left = op;
      layer.laurel_right = next;
    }
  }
}

// A layer is predicted before it is computed and corrected after.
void AddRouter(const GraphWalk& walk, int32_t op, int64_t num_streams,
               std::vector<Layer>& layers) {
  const int32_t next = OnlyBehind(walk, op);
  if (next < 0) return;
  if (walk.OutputWidth(next) == num_streams * num_streams) {
    const auto layer =
        std::find_if(layers.begin(), layers.end(),
                     [&](const Layer& each) { return each.First() > op; });
    if (layer == layers.end()) return;
    layer->prediction_router = op;
    layer->prediction = next;
  } else if (walk.OutputWidth(next) == num_streams) {
    Layer* layer = LayerAt(layers, op);
    if (layer == nullptr) return;
    layer->correction_router = op;
    layer->correction = next;
  }
}

}  // namespace

void FindStreams(const GraphWalk& walk, const Lookups& lookups,
                 int64_t num_streams, Products& products) {
  FindLaurels(walk, lookups, products);
  for (const int32_t op : walk.products()) {
    if (op == products.per_layer_model || op == products.head) continue;
    if (walk.ProductsBefore(walk.graph().ops[op].inputs[0]).empty()) {
      products.stream_projections.push_back(op);
    } else if (walk.OutputWidth(op) == num_streams) {
      AddRouter(walk, op, num_streams, products.layers);
    } else if (products.head >= 0 &&
               walk.ProductsBehindOp(op) == OpSet{products.head}) {
      products.stream_outputs.push_back(op);
    }
  }
}

}  // namespace verify_tflite
