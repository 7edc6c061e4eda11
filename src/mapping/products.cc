#include "mapping/products.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <tuple>

#include "tflite/interface.h"

namespace verify_tflite {
namespace {

// As the signatures of both converters call them.
constexpr std::string_view kLogits = "logits";
// In names of signatures that look up per-layer embeddings.
constexpr std::string_view kPerLayer = "per_layer_embedder";

// The table that an operator looks rows up in, a constant; -1: it does not.
int32_t TableOf(const GraphWalk& walk, const tflite::Op& op) {
  if (op.inputs.size() != 2) return -1;
  if (op.code == tflite::kOpEmbeddingLookup) {
    return walk.ConstantOf(op.inputs[1]);
  }
  if (op.code == tflite::kOpGather &&
      walk.TensorAt(op.inputs[0]).shape.size() == 2) {
    return walk.ConstantOf(op.inputs[0]);
  }
  return -1;
}

// Layers in the order in which they are computed, or why there are none.
std::optional<std::string> FindLayers(const GraphWalk& walk, int64_t num_layers,
                                      std::vector<Layer>& layers) {
  struct Cache {
    int32_t product;
    int64_t number;
    int32_t tensor;
  };
  std::vector<Cache> keys, values, states;
  for (const auto& [name, tensor] : walk.graph().outputs) {
    const auto cache = ParseKvName(name);
    if (!cache) continue;
    const OpSet before = walk.ProductsBefore(tensor);
    if (before.size() != 1) {
      return fmt::format("{} products lead to {}", before.size(), name);
    }
    std::vector<Cache>& all = cache->part == KvPart::kKeys     ? keys
                              : cache->part == KvPart::kValues ? values
                                                               : states;
    all.push_back({*before.begin(), cache->layer, tensor});
  }
  if (static_cast<int64_t>(keys.size()) != num_layers ||
      values.size() != keys.size()) {
    return fmt::format("{} K and {} V caches for {} layers", keys.size(),
                       values.size(), num_layers);
  }
  std::sort(keys.begin(), keys.end(), [](const Cache& a, const Cache& b) {
    return std::tie(a.product, a.number) < std::tie(b.product, b.number);
  });
  for (const auto& [k, number, k_cache] : keys) {
    const auto value =
        std::find_if(values.begin(), values.end(),
                     [&](const Cache& v) { return v.number == number; });
    if (value == values.end()) return "K and V caches do not pair";
    if (!layers.empty() && layers.back().k == k) {
      return "two layers' K caches hold the same";
    }
    Layer layer;
    layer.k = k;
    layer.v = value->product;
    layer.k_cache = k_cache;
    layers.push_back(layer);
  }
  for (const Cache& state : states) {
    Layer layer;
    layer.k = layer.v = state.product;
    layer.k_cache = state.tensor;
    layer.conv = true;
    layers.push_back(layer);
  }
  return std::nullopt;
}

// Whether the product of the K cache gives as many numbers as are written
// there: no queries and no values of their own.
bool GivesKeys(const GraphWalk& walk, const Layer& layer) {
  const int32_t producer = walk.TensorAt(layer.k_cache).producer;
  const auto& made = walk.graph().ops[layer.k].outputs;
  if (producer < 0 || made.empty() || made[0] < 0) return false;
  const int32_t written = walk.WrittenTo(producer, layer.k_cache);
  return written >= 0 && walk.Elements(written) == walk.Elements(made[0]);
}

// A layer that takes another one's keys and values.
void AddSharing(const GraphWalk& walk, int32_t o, Products& products) {
  Layer layer;
  layer.o = o;
  for (const int32_t op : walk.products()) {
    if (Contains(products.attention, op) ||
        walk.ProductsBehindOp(op) != OpSet{o})
      continue;
    layer.q = layer.q == -1 ? op : -2;
  }
  if (layer.q < 0) return;
  products.attention.insert(layer.q);
  products.layers.push_back(layer);
}

void FindOutputs(const GraphWalk& walk, const Lookups& lookups,
                 Products& products) {
  OpSet others;  // o of layers that take another one's keys and values
  for (Layer& layer : products.layers) {
    OpSet behind = walk.ProductsBehindOp(layer.v);
    // The first is its own: the others depend on it.
    if (!behind.empty()) {
      layer.o = *behind.begin();
      others.insert(std::next(behind.begin()), behind.end());
    }
    for (const int32_t op : walk.products()) {
      if (op == layer.k || op == layer.v ||
          InputRoot(walk, lookups, op) != InputRoot(walk, lookups, layer.k) ||
          layer.o < 0 || walk.ProductsBehindOp(op) != OpSet{layer.o}) {
        continue;
      }
      layer.q = layer.q == -1 ? op : -2;  // -2: several
    }
    layer.fused = !layer.conv && layer.k == layer.v && layer.q == -1 &&
                  !GivesKeys(walk, layer);
    if (layer.fused) layer.q = layer.k;
    products.attention.insert({layer.k, layer.v});
    if (layer.q >= 0) products.attention.insert(layer.q);
  }
  for (const int32_t o : others) AddSharing(walk, o, products);
  std::stable_sort(
      products.layers.begin(), products.layers.end(),
      [](const Layer& a, const Layer& b) { return a.First() < b.First(); });
  for (const Layer& layer : products.layers) {
    if (layer.o >= 0) products.outputs.insert(layer.o);
  }
}

// down is what no attention's output leads to other than through a product.
void FindMlps(const GraphWalk& walk, Products& products) {
  for (const int32_t op : walk.products()) {
    if (Contains(products.attention, op) || Contains(products.outputs, op) ||
        Contains(products.of_experts, op)) {
      continue;
    }
    const OpSet before = walk.ProductsBefore(walk.graph().ops[op].inputs[0]);
    const bool is_down =
        !before.empty() && before.size() <= 2 &&
        std::none_of(before.begin(), before.end(), [&](int32_t b) {
          return Contains(products.outputs, b) ||
                 Contains(products.attention, b) || Contains(products.downs, b);
        });
    Layer* layer = LayerAt(products.layers, op);
    if (!is_down || layer == nullptr || layer->down >= 0) continue;
    layer->down = op;
    layer->gate_up = before;
    products.downs.insert(op);
    if (before.size() == 2) {
      OrderGateUp(walk, before, layer->gate, layer->up);
    }
  }
}

// Of per-layer embeddings: one product of the embedding leads to a projection
// in each layer, and so does a gate of that layer's own.
void FindPerLayer(const GraphWalk& walk, Products& products) {
  for (const int32_t op : walk.products()) {
    if (Contains(products.attention, op) ||
        !walk.ProductsBefore(walk.graph().ops[op].inputs[0]).empty()) {
      continue;
    }
    // One for each layer; what makes another residual stream leads to more.
    const OpSet behind = walk.ProductsBehindOp(op);
    if (behind.empty() || behind.size() > products.layers.size()) continue;
    for (const int32_t projection : behind) {
      OpSet before =
          walk.ProductsBefore(walk.graph().ops[projection].inputs[0]);
      before.erase(op);
      Layer* layer = LayerAt(products.layers, projection);
      if (before.size() != 1 || layer == nullptr || layer->down < 0 ||
          layer->down >= projection) {
        continue;
      }
      layer->per_layer_projection = projection;
      layer->per_layer_gate = *before.begin();
      products.per_layer_model = op;
    }
  }
}

void FindHead(const GraphWalk& walk, Products& products) {
  for (const auto& [name, tensor] : walk.graph().outputs) {
    if (!std::string_view(name).starts_with(kLogits)) continue;
    const OpSet before = walk.ProductsBefore(tensor);
    if (before.size() == 1 && !Contains(products.attention, *before.begin()) &&
        !Contains(products.downs, *before.begin())) {
      products.head = *before.begin();
    }
  }
}

}  // namespace

Lookups FindLookups(const GraphWalk& walk) {
  const tflite::Graph& graph = walk.graph();
  const bool per_layer = graph.signature.find(kPerLayer) != std::string::npos;
  Lookups lookups;
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const tflite::Op& op = graph.ops[i];
    Lookup lookup;
    lookup.table = TableOf(walk, op);
    if (lookup.table < 0) continue;
    if (per_layer) lookup.part = Part::kPerLayerEmbedding;
    lookups.ops.insert(static_cast<int32_t>(i));
    if (!op.outputs.empty()) {
      lookup.has_output = true;
      lookup.output = walk.RotatedBack(walk.Dequantised(op.outputs[0]));
      if (lookup.output.op >= 0) lookups.rotations.insert(lookup.output.op);
    }
    lookups.found.push_back(lookup);
  }
  return lookups;
}

OpSet Layer::MlpInputs() const {
  OpSet inputs = gate_up;
  for (const Expert& expert : experts) {
    inputs.insert(expert.gate_up.begin(), expert.gate_up.end());
  }
  if (router >= 0) inputs.insert(router);
  if (shared_scale >= 0) inputs.insert(shared_scale);
  return inputs;
}

void OrderGateUp(const GraphWalk& walk, const OpSet& gate_up, int32_t& gate,
                 int32_t& up) {
  const int32_t a = *gate_up.begin(), b = *gate_up.rbegin();
  size_t behind_a = 0, behind_b = 0;
  walk.ProductsBehindOp(a, &behind_a);
  walk.ProductsBehindOp(b, &behind_b);
  if (behind_a == behind_b) return;
  gate = behind_a > behind_b ? a : b;
  up = behind_a > behind_b ? b : a;
}

int32_t InputRoot(const GraphWalk& walk, const Lookups& lookups, int32_t op) {
  const int32_t input =
      walk.BeforeRotation(walk.graph().ops[op].inputs[0], lookups.rotations)
          .tensor;
  return walk.Root(walk.BeforeScale(input, false).tensor);
}

std::optional<std::string> FindProducts(const tflite::File& file,
                                        const GraphWalk& walk,
                                        const Lookups& lookups,
                                        const ModelForm& form,
                                        Products& products) {
  if (const auto reason = FindLayers(walk, form.num_layers, products.layers)) {
    return reason;
  }
  FindOutputs(walk, lookups, products);
  if (const auto reason = FindExperts(file, walk, products)) return reason;
  FindMlps(walk, products);
  FindSharedScales(walk, lookups, products);
  FindPerLayer(walk, products);
  FindHead(walk, products);
  if (form.num_streams > 0) {
    FindStreams(walk, lookups, form.num_streams, products);
  }
  return std::nullopt;
}

void TellLookups(const GraphWalk& walk, const Products& products,
                 Lookups& lookups) {
  if (lookups.found.size() < 2 || products.layers.empty()) return;
  for (Lookup& lookup : lookups.found) {
    if (!lookup.has_output) continue;
    const OpSet behind = walk.ProductsBehind(lookup.output.tensor);
    if (!Contains(behind, products.layers[0].k)) {
      lookup.part = Part::kPerLayerEmbedding;
    }
  }
}

}  // namespace verify_tflite
