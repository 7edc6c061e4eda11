#include "mapping/roles.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <tuple>

#include "mapping/graph_walk.h"
#include "tflite/interface.h"

namespace verify_tflite {
namespace {

// As the signatures of both converters call them.
constexpr std::string_view kLogits = "logits";
// In names of signatures that look up per-layer embeddings.
constexpr std::string_view kPerLayer = "per_layer_embedder";

bool IsSubset(const OpSet& set, const OpSet& of) {
  return std::includes(of.begin(), of.end(), set.begin(), set.end());
}

bool IsInteger(ElementType type) {
  return type == ElementType::kInt8 || type == ElementType::kInt4 ||
         type == ElementType::kInt2;
}

// ---------------------------------------------------------------------------
// Which operators look up embeddings
// ---------------------------------------------------------------------------

struct Lookup {
  int32_t table = -1;  // constant
  Part part = Part::kEmbedding;
  bool has_output = false;
  GraphWalk::Rotated output;  // rotated back, where it is rotated
};

struct Lookups {
  std::vector<Lookup> found;  // in the order of execution
  OpSet ops;
  OpSet rotations;  // operators: part of a lookup, not of the product behind
};

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

// ---------------------------------------------------------------------------
// What the products are for
// ---------------------------------------------------------------------------

// One layer's products.
struct Layer {
  int32_t k = -1, v = -1, q = -1, o = -1, down = -1;
  int32_t k_cache = -1;  // tensor
  OpSet gate_up;
  int32_t gate = -1, up = -1;  // none where there is one product of both
  bool fused = false;          // k is q and v, too
  int32_t per_layer_gate = -1, per_layer_projection = -1;
  // Its first product. One that takes another layer's keys has no k.
  int32_t First() const {
    if (k < 0) return q;
    return q >= 0 ? std::min(q, k) : k;
  }
};

// What a graph's products are for. FindLayers, FindOutputs, FindMlps,
// FindPerLayer and FindHead fill it, each from what those before it found.
struct Products {
  std::vector<Layer> layers;  // in the order of execution
  OpSet attention, outputs, downs;
  int32_t per_layer_model = -1;
  int32_t head = -1;
};

template <typename Layers>
auto* LayerAt(Layers& layers, int32_t op) {
  decltype(layers.data()) found = nullptr;
  for (auto& layer : layers) {
    if (layer.First() < op) found = &layer;
  }
  return found;
}

int32_t InputRoot(const GraphWalk& walk, const Lookups& lookups, int32_t op) {
  const int32_t input =
      walk.BeforeRotation(walk.graph().ops[op].inputs[0], lookups.rotations)
          .tensor;
  return walk.Root(walk.BeforeScale(input, false).tensor);
}

// Layers in the order in which they are computed, or why there are none.
std::optional<std::string> FindLayers(const GraphWalk& walk, int64_t num_layers,
                                      std::vector<Layer>& layers) {
  struct Cache {
    int32_t product;
    int64_t number;
    int32_t tensor;
  };
  std::vector<Cache> keys, values;
  for (const auto& [name, tensor] : walk.graph().outputs) {
    const auto cache = ParseKvName(name);
    if (!cache) continue;
    const OpSet before = walk.ProductsBefore(tensor);
    if (before.size() != 1) {
      return fmt::format("{} products lead to {}", before.size(), name);
    }
    (cache->part == KvPart::kKeys ? keys : values)
        .push_back({*before.begin(), cache->layer, tensor});
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
    layer.fused =
        layer.k == layer.v && layer.q == -1 && !GivesKeys(walk, layer);
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

// The activation stands between gate and down only.
void OrderGateUp(const GraphWalk& walk, Layer& layer) {
  const int32_t a = *layer.gate_up.begin(), b = *layer.gate_up.rbegin();
  size_t behind_a = 0, behind_b = 0;
  walk.ProductsBehindOp(a, &behind_a);
  walk.ProductsBehindOp(b, &behind_b);
  if (behind_a == behind_b) return;
  layer.gate = behind_a > behind_b ? a : b;
  layer.up = behind_a > behind_b ? b : a;
}

// down is what no attention's output leads to other than through a product.
void FindMlps(const GraphWalk& walk, Products& products) {
  for (const int32_t op : walk.products()) {
    if (Contains(products.attention, op) || Contains(products.outputs, op))
      continue;
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
    if (before.size() == 2) OrderGateUp(walk, *layer);
  }
}

// Of per-layer embeddings: one product of the embedding leads to a projection
// in each layer, and so does a gate of that layer's own.
void FindPerLayer(const GraphWalk& walk, Products& products) {
  for (const int32_t op : walk.products()) {
    const OpSet behind = walk.ProductsBehindOp(op);
    if (Contains(products.attention, op) || behind.empty() ||
        !walk.ProductsBefore(walk.graph().ops[op].inputs[0]).empty()) {
      continue;
    }
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

// Of several lookups, the first layer's products stand behind the token
// embedding; the others are per-layer embeddings.
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

// ---------------------------------------------------------------------------
// What the constants are for
// ---------------------------------------------------------------------------

// All that is known of a graph when its constants get their roles.
struct Found {
  const tflite::File& file;
  const GraphWalk& walk;
  const Lookups& lookups;
  const Products& products;
  bool sub_norms;
};

RoleUse UseOf(const GraphWalk& walk, int32_t constant, const WeightRole& role) {
  RoleUse use;
  use.constant = constant;
  use.role = role;
  use.signature = walk.graph().signature;
  return use;
}

// A tensor that is a constant vector, as the use of it; else none.
std::optional<RoleUse> VectorUse(const GraphWalk& walk, int32_t tensor,
                                 const WeightRole& role) {
  const int32_t constant = walk.ConstantOf(tensor);
  if (constant < 0 || walk.TensorAt(walk.Root(tensor)).shape.empty()) {
    return std::nullopt;
  }
  return UseOf(walk, constant, role);
}

void NameLookups(const GraphWalk& walk, const Lookups& lookups, Roles& roles,
                 SignatureRoles& signature) {
  for (const Lookup& lookup : lookups.found) {
    RoleUse use = UseOf(walk, lookup.table, {lookup.part, -1, false});
    use.rotation = lookup.output.rotation;
    roles.uses.push_back(use);
    if (lookup.has_output &&
        (lookup.part == Part::kEmbedding || signature.embedding < 0)) {
      signature.embedding = lookup.output.tensor;
    }
  }
}

// Some add a bias by an operator of its own.
void AddBiasBehind(const GraphWalk& walk, const WeightRole& role, Roles& roles,
                   ProductUse& product) {
  const int32_t output = product.output;
  if (output < 0) return;
  walk.CountVisits(walk.graph().ops.size());
  for (const tflite::Op& add : walk.graph().ops) {
    if (add.code != tflite::kOpAdd || add.inputs.size() != 2) continue;
    for (const int32_t side : {0, 1}) {
      const int32_t bias = add.inputs[side], other = add.inputs[1 - side];
      if (other < 0 || walk.Root(other) != output) continue;
      const auto use = VectorUse(walk, bias, role);
      if (!use) continue;
      roles.uses.push_back(*use);
      // One that is as wide as the product, and the first.
      if (product.bias < 0 && walk.IsVector(bias, other) &&
          !add.outputs.empty() && add.outputs[0] >= 0) {
        product.bias = use->constant;
        product.output = add.outputs[0];
      }
    }
  }
}

// A product in its role, with the operator that scales its input.
struct NamedProduct {
  ProductUse use;
  int32_t scale_op = -1;
};

NamedProduct ProductAt(const Found& found, int32_t index,
                       const WeightRole& role) {
  const tflite::Op& op = found.walk.graph().ops[index];
  const auto before =
      found.walk.BeforeRotation(op.inputs[0], found.lookups.rotations);
  const auto scaled = found.walk.BeforeScale(
      before.tensor,
      !found.sub_norms && (role.part == Part::kO || role.part == Part::kDown));
  const ProductUse use{
      .role = role,
      .constant = found.walk.WeightOf(index),
      .transposed = op.code == tflite::kOpBatchMatmul && !op.adjoint_y,
      .op = index,
      .input = scaled.tensor,
      .input_scale = scaled.vector,
      .rotation = before.rotation,
      .rotated = before.rotation < 0 ? -1 : op.inputs[0],
      .output = op.outputs.empty() ? -1 : op.outputs[0],
      .quantised_input =
          op.inputs[0] >= 0 &&
          IsInteger(found.walk.TensorAt(op.inputs[1]).type) &&
          found.walk.TensorAt(op.inputs[0]).type == ElementType::kFloat32};
  return {use, scaled.op};
}

// Adds the uses of a product's matrix and bias, and the product.
void AddProduct(const Found& found, WeightRole role, ProductUse product,
                Roles& roles, SignatureRoles& signature) {
  RoleUse matrix = UseOf(found.walk, product.constant, role);
  matrix.transposed = product.transposed;
  matrix.operand = true;
  matrix.rotation = product.rotation;
  matrix.input_scale = product.input_scale;
  roles.uses.push_back(matrix);
  role.bias = true;
  const tflite::Op& op = found.walk.graph().ops[product.op];
  auto bias = op.inputs.size() > 2 ? VectorUse(found.walk, op.inputs[2], role)
                                   : std::nullopt;
  if (bias) {
    bias->operand = true;
    product.bias = bias->constant;
    roles.uses.push_back(*bias);
  }
  AddBiasBehind(found.walk, role, roles, product);
  if (product.input >= 0 && product.output >= 0) {
    signature.products.push_back(product);
  }
}

// Each product that has a role, layer by layer.
std::vector<std::pair<int32_t, WeightRole>> RolesOfProducts(
    const Found& found) {
  std::vector<std::pair<int32_t, WeightRole>> roles;
  const auto name = [&](int32_t op, Part part, int32_t layer) {
    if (op >= 0) roles.emplace_back(op, WeightRole{part, layer, false});
  };
  const std::vector<Layer>& layers = found.products.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& l = layers[i];
    const auto number = static_cast<int32_t>(i);
    if (l.fused) {
      name(l.k, Part::kQkv, number);
    } else {
      name(l.k, Part::kK, number);
      if (l.v != l.k) name(l.v, Part::kV, number);
      name(l.q, Part::kQ, number);
    }
    name(l.o, Part::kO, number);
    name(l.down, Part::kDown, number);
    if (l.gate_up.size() == 1) {
      const int32_t op = *l.gate_up.begin();
      // One product of both is twice as wide as what down reads.
      const int64_t width =
          found.walk.Width(InputRoot(found.walk, found.lookups, l.down));
      const bool both = width > 0 && found.walk.OutputWidth(op) == 2 * width;
      name(op, both ? Part::kGateUp : Part::kUp, number);
    } else {
      name(l.gate, Part::kGate, number);
      name(l.up, Part::kUp, number);
    }
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto number = static_cast<int32_t>(i);
    name(layers[i].per_layer_gate, Part::kPerLayerGate, number);
    name(layers[i].per_layer_projection, Part::kPerLayerProjection, number);
  }
  name(found.products.per_layer_model, Part::kPerLayerModelProjection, -1);
  name(found.products.head, Part::kHead, -1);
  return roles;
}

// Gives the operators that scale a product's input.
OpSet NameProducts(const Found& found, Roles& roles,
                   SignatureRoles& signature) {
  OpSet named, scale_ops;
  for (const auto& [op, role] : RolesOfProducts(found)) {
    named.insert(op);
    const NamedProduct product = ProductAt(found, op, role);
    if (product.scale_op >= 0) scale_ops.insert(product.scale_op);
    AddProduct(found, role, product.use, roles, signature);
  }
  std::sort(
      signature.products.begin(), signature.products.end(),
      [](const ProductUse& a, const ProductUse& b) { return a.op < b.op; });
  for (const int32_t op : found.walk.products()) {
    if (!Contains(named, op)) roles.unknown.push_back(found.walk.WeightOf(op));
  }
  return scale_ops;
}

// Whether the composite's body does nothing but multiply with that input.
bool OnlyScales(const Found& found, const tflite::Op& op, size_t input) {
  if (op.body < 0 || static_cast<size_t>(op.body) >= found.file.graphs.size()) {
    return false;
  }
  const tflite::Graph& body = found.file.graphs[op.body];
  if (input >= body.input_tensors.size() || body.input_tensors[input] < 0) {
    return false;
  }
  bool only = true;
  found.walk.Follow(
      body.input_tensors[input], [&](int32_t t, std::vector<int32_t>& open) {
        for (const int32_t consumer : body.tensors[t].consumers) {
          const tflite::Op& next = body.ops[consumer];
          if (next.code == tflite::kOpMul) continue;
          only &= PassesOn(next) || next.code == tflite::kOpBroadcastTo;
          open.insert(open.end(), next.outputs.begin(), next.outputs.end());
        }
        if (!only) open.clear();
      });
  return only;
}

// Of a norm of what one product alone gave.
std::optional<Part> NormOf(const Found& found, const Layer& layer,
                           int32_t source, int32_t after) {
  const auto reaches_keys = [&] {
    return found.walk.Reaches(after, layer.k_cache);
  };
  // Heads of a fused product: those of k go into the cache.
  if (layer.fused && source == layer.k) {
    return reaches_keys() ? Part::kKNorm : Part::kQNorm;
  }
  if (!layer.fused && source == layer.q) return Part::kQNorm;
  if (!layer.fused && source == layer.k) {
    // Values of the same product have a norm of their own.
    return layer.k != layer.v || reaches_keys() ? Part::kKNorm : Part::kVNorm;
  }
  if (!layer.fused && source == layer.v) return Part::kVNorm;
  if (source == layer.per_layer_projection) return Part::kPerLayerNorm;
  // Sandwich norms: nothing of the residual stream comes in.
  if (source == layer.o) return Part::kAttentionNorm;
  if (source == layer.down) return Part::kOutputNorm;
  return std::nullopt;
}

// Of a norm that only those products read.
std::optional<Part> NormBefore(const Found& found, const Layer& layer,
                               const OpSet& targets) {
  if (found.sub_norms && targets == OpSet{layer.o}) {
    return Part::kAttentionSubNorm;
  }
  if (found.sub_norms && targets == OpSet{layer.down}) {
    return Part::kMlpSubNorm;
  }
  OpSet all = {layer.k, layer.v, layer.q};
  all.insert(layer.gate_up.begin(), layer.gate_up.end());
  if (Contains(targets, layer.k >= 0 ? layer.k : layer.q) &&
      IsSubset(targets, all)) {
    return Part::kInputNorm;
  }
  if (!layer.gate_up.empty() && IsSubset(targets, layer.gate_up)) {
    return Part::kMlpNorm;
  }
  return std::nullopt;
}

// Of the norm that reads `before` and gives `after`.
std::optional<WeightRole> NormAt(const Found& found, int32_t before,
                                 int32_t after, bool bias) {
  if (before < 0) return std::nullopt;
  const std::vector<Layer>& layers = found.products.layers;
  const OpSet sources = found.walk.ProductsBefore(before);
  const bool from_embedding =
      found.walk.FromEmbedding(before, found.lookups.ops);
  if (sources.empty() && !from_embedding) return std::nullopt;
  if (sources.size() == 1 && !from_embedding) {
    const int32_t source = *sources.begin();
    if (source == found.products.per_layer_model) {
      return WeightRole{Part::kPerLayerModelNorm, -1, bias};
    }
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto part = NormOf(found, layers[i], source, after);
      if (part) return WeightRole{*part, static_cast<int32_t>(i), bias};
    }
  }
  const OpSet targets = found.walk.ProductsBehind(after);
  if (targets.empty()) return std::nullopt;
  if (targets == OpSet{found.products.head}) {
    return WeightRole{Part::kFinalNorm, -1, bias};
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto part = NormBefore(found, layers[i], targets);
    if (part) return WeightRole{*part, static_cast<int32_t>(i), bias};
  }
  return std::nullopt;
}

// Norms: vectors that scale, or are added to, what products gave. Those of
// `scale_ops` belong to a product.
void NameNorms(const Found& found, const OpSet& scale_ops, Roles& roles) {
  const std::vector<tflite::Op>& ops = found.walk.graph().ops;
  for (size_t i = 0; i < ops.size(); ++i) {
    const tflite::Op& op = ops[i];
    const bool composite = op.code == tflite::kOpStablehloComposite &&
                           op.composite.find("norm") != std::string::npos;
    if ((op.code != tflite::kOpMul && op.code != tflite::kOpAdd &&
         !composite) ||
        op.inputs.size() < 2 || op.outputs.empty() ||
        Contains(scale_ops, static_cast<int32_t>(i))) {
      continue;
    }
    for (size_t side = 0; side < op.inputs.size(); ++side) {
      if (found.walk.ConstantOf(op.inputs[side]) < 0) continue;
      const int32_t other = op.inputs[side == 0 ? 1 : 0];
      const bool bias = op.code == tflite::kOpAdd || (composite && side == 2);
      const auto role = NormAt(found, other, op.outputs[0], bias);
      if (!role || !found.walk.IsVector(op.inputs[side], other)) continue;
      auto use = VectorUse(found.walk, op.inputs[side], *role);
      if (!use) continue;
      use->composite = composite && !OnlyScales(found, op, side);
      roles.uses.push_back(*use);
    }
  }
}

// Of what leaves a layer: one number that the residual stream is multiplied
// with.
void NameScalars(const Found& found, Roles& roles) {
  const std::vector<tflite::Op>& ops = found.walk.graph().ops;
  const std::vector<Layer>& layers = found.products.layers;
  for (size_t i = 0; i < ops.size(); ++i) {
    const tflite::Op& op = ops[i];
    if (op.code != tflite::kOpMul || op.inputs.size() != 2) continue;
    const Layer* layer = LayerAt(layers, static_cast<int32_t>(i));
    if (layer == nullptr || layer->down < 0) continue;
    for (const int side : {0, 1}) {
      const int32_t constant = found.walk.ConstantOf(op.inputs[side]);
      if (constant < 0 || found.file.constants[constant].elements() != 1) {
        continue;
      }
      const OpSet before = found.walk.ProductsBefore(op.inputs[1 - side]);
      if (!Contains(before, layer->o) || !Contains(before, layer->down)) {
        continue;
      }
      const auto number = static_cast<int32_t>(layer - layers.data());
      roles.uses.push_back(
          UseOf(found.walk, constant, {Part::kLayerScalar, number, false}));
    }
  }
}

// RoPE that turns neighbours puts them on an axis of their own.
bool TurnsNeighbours(const tflite::Graph& graph, int64_t head_dim) {
  return std::any_of(
      graph.tensors.begin(), graph.tensors.end(), [&](const tflite::Tensor& t) {
        const size_t rank = t.shape.size();
        return t.producer >= 0 && rank >= 3 && t.shape[rank - 1] == 2 &&
               t.shape[rank - 2] == head_dim / 2;
      });
}

bool HasCaches(const tflite::Graph& graph) {
  return std::any_of(graph.outputs.begin(), graph.outputs.end(),
                     [](const tflite::NamedTensor& output) {
                       const auto name = ParseKvName(output.first);
                       return name && name->part == KvPart::kKeys;
                     });
}

// Weights of products that have no role, of a graph without caches too.
void CollectUnknown(const GraphWalk& walk, Roles& roles) {
  for (const int32_t op : walk.products()) {
    roles.unknown.push_back(walk.WeightOf(op));
  }
}

// Why not, where the graph is not of the form known.
std::optional<std::string> FindProducts(const GraphWalk& walk,
                                        const Lookups& lookups,
                                        int64_t num_layers,
                                        Products& products) {
  if (const auto reason = FindLayers(walk, num_layers, products.layers)) {
    return reason;
  }
  FindOutputs(walk, lookups, products);
  FindMlps(walk, products);
  FindPerLayer(walk, products);
  FindHead(walk, products);
  return std::nullopt;
}

}  // namespace

Roles FindRoles(const tflite::File& file, int64_t num_layers, int64_t head_dim,
                bool sub_norms) {
  Roles roles;
  for (size_t i = 0; i < file.graphs.size(); ++i) {
    const tflite::Graph& graph = file.graphs[i];
    if (graph.signature.empty()) continue;
    const GraphWalk walk(graph, roles.rotations,
                         FindRotations(file, graph, roles.rotations));
    SignatureRoles signature;
    signature.signature = graph.signature;
    signature.graph = static_cast<int32_t>(i);
    Lookups lookups = FindLookups(walk);
    Products products;
    if (!HasCaches(graph)) {
      signature.not_understood = "it has no KV caches";
    } else if (const auto reason =
                   FindProducts(walk, lookups, num_layers, products)) {
      signature.not_understood = *reason;
      roles.not_understood.push_back(graph.signature + ": " + *reason);
    }
    const bool understood = signature.not_understood.empty();
    if (understood) TellLookups(walk, products, lookups);
    NameLookups(walk, lookups, roles, signature);
    if (understood) {
      const Found found = {file, walk, lookups, products, sub_norms};
      const OpSet scale_ops = NameProducts(found, roles, signature);
      NameNorms(found, scale_ops, roles);
      NameScalars(found, roles);
      roles.interleaved_rope |= TurnsNeighbours(graph, head_dim);
    } else {
      CollectUnknown(walk, roles);
    }
    if (HasCaches(graph)) {
      for (const auto& [name, tensor] : graph.inputs) {
        roles.embeddings_input |=
            std::string_view(name).starts_with("embeddings");
      }
    }
    roles.signatures.push_back(std::move(signature));
  }
  return roles;
}

}  // namespace verify_tflite
