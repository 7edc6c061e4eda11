#include "mapping/roles.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "mapping/graph_walk.h"
#include "mapping/products.h"
#include "tflite/interface.h"

namespace verify_tflite {
namespace {

bool IsSubset(const OpSet& set, const OpSet& of) {
  return std::includes(of.begin(), of.end(), set.begin(), set.end());
}

bool IsInteger(ElementType type) {
  return type == ElementType::kInt8 || type == ElementType::kInt4 ||
         type == ElementType::kInt2;
}

// All that is known of a graph when its constants get their roles.
struct Found {
  const tflite::File& file;
  const GraphWalk& walk;
  const Lookups& lookups;
  const Products& products;
  const ModelForm& form;
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
  const bool can_have_no_norm =
      !found.form.sub_norms &&
      (role.part == Part::kO || role.part == Part::kDown ||
       role.part == Part::kExpertDown || role.part == Part::kSharedDown);
  const auto scaled = found.walk.BeforeScale(before.tensor, can_have_no_norm);
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

// Of a layer with experts, the shared one among them.
void NameExperts(const Layer& l, int32_t number, const auto& name) {
  name(l.router, Part::kRouter, number);
  name(l.shared_scale, Part::kSharedScale, number);
  name(l.down, Part::kSharedDown, number);
  if (l.gate_up.size() == 1) {
    name(*l.gate_up.begin(), Part::kSharedGateUp, number);
  } else {
    name(l.gate, Part::kSharedGate, number);
    name(l.up, Part::kSharedUp, number);
  }
  for (const Expert& expert : l.experts) {
    const int32_t e = expert.use.expert;
    if (expert.gate_up.size() == 1) {
      name(*expert.gate_up.begin(), Part::kExpertGateUp, number, e);
    } else {
      name(expert.gate, Part::kExpertGate, number, e);
      name(expert.up, Part::kExpertUp, number, e);
    }
    name(expert.down, Part::kExpertDown, number, e);
  }
}

// Each product that has a role, layer by layer.
std::vector<std::pair<int32_t, WeightRole>> RolesOfProducts(
    const Found& found) {
  std::vector<std::pair<int32_t, WeightRole>> roles;
  const auto name = [&](int32_t op, Part part, int32_t layer,
                        int32_t expert = -1) {
    if (op >= 0) roles.emplace_back(op, WeightRole{part, layer, false, expert});
  };
  const std::vector<Layer>& layers = found.products.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& l = layers[i];
    const auto number = static_cast<int32_t>(i);
    if (l.conv) {
      name(l.k, Part::kConvInput, number);
    } else if (l.fused) {
      name(l.k, Part::kQkv, number);
    } else {
      name(l.k, Part::kK, number);
      if (l.v != l.k) name(l.v, Part::kV, number);
      name(l.q, Part::kQ, number);
    }
    name(l.o, l.conv ? Part::kConvOutput : Part::kO, number);
    if (l.router >= 0) {
      NameExperts(l, number, name);
      continue;
    }
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
    name(layers[i].prediction_router, Part::kStreamRouter, number);
    name(layers[i].prediction, Part::kPrediction, number);
    name(layers[i].correction_router, Part::kStreamRouter, number);
    name(layers[i].correction, Part::kCorrection, number);
    name(layers[i].laurel_left, Part::kLaurelLeft, number);
    name(layers[i].laurel_right, Part::kLaurelRight, number);
  }
  name(found.products.per_layer_model, Part::kPerLayerModelProjection, -1);
  const auto name_streams = [&](const std::vector<int32_t>& ops, Part part) {
    for (size_t i = 0; i < ops.size(); ++i) {
      name(ops[i], part, static_cast<int32_t>(i));
    }
  };
  name_streams(found.products.stream_projections, Part::kStreamProjection);
  name_streams(found.products.stream_outputs, Part::kStreamOutput);
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
  if (layer.conv && source == layer.k) return std::nullopt;
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
  if (source == layer.laurel_right) return Part::kLaurelNorm;
  if (source == layer.per_layer_projection) return Part::kPerLayerNorm;
  // Sandwich norms: nothing of the residual stream comes in.
  if (source == layer.o) return Part::kAttentionNorm;
  if (source == layer.down) return Part::kOutputNorm;
  return std::nullopt;
}

// Of a norm that only those products read.
std::optional<Part> NormBefore(const Found& found, const Layer& layer,
                               const OpSet& targets) {
  if (found.form.sub_norms && targets == OpSet{layer.o}) {
    return Part::kAttentionSubNorm;
  }
  if (found.form.sub_norms && targets == OpSet{layer.down}) {
    return Part::kMlpSubNorm;
  }
  OpSet all = {layer.k, layer.v, layer.q};
  const OpSet of_mlp = layer.MlpInputs();
  all.insert(of_mlp.begin(), of_mlp.end());
  if (Contains(targets, layer.k >= 0 ? layer.k : layer.q) &&
      IsSubset(targets, all)) {
    return Part::kInputNorm;
  }
  if (!of_mlp.empty() && IsSubset(targets, of_mlp)) return Part::kMlpNorm;
  return std::nullopt;
}

// Streams lead from everywhere to everywhere: what counts is the product that
// reads the norm itself, whose output is `after`.
std::optional<WeightRole> NormOfStreams(const Found& found, int32_t after,
                                        bool bias) {
  const int32_t root = found.walk.Root(after);
  const auto reads = [&](int32_t op) {
    return op >= 0 && InputRoot(found.walk, found.lookups, op) == root;
  };
  if (reads(found.products.head)) return WeightRole{Part::kFinalNorm, -1, bias};
  const std::vector<Layer>& layers = found.products.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& l = layers[i];
    const auto role = [&](Part part) {
      return WeightRole{part, static_cast<int32_t>(i), bias};
    };
    if (reads(l.prediction_router) || reads(l.correction_router)) {
      return role(Part::kStreamRouterNorm);
    }
    if (reads(l.k >= 0 ? l.k : l.q)) return role(Part::kInputNorm);
    if (std::ranges::any_of(l.gate_up, reads)) return role(Part::kMlpNorm);
    if (reads(l.per_layer_gate)) return role(Part::kStreamScale);
  }
  return std::nullopt;
}

// What is added to scores for the choice.
std::optional<WeightRole> RouterBias(int32_t layer, bool added) {
  if (!added) return std::nullopt;
  return WeightRole{Part::kRouterBias, layer, false};
}

// Of the norm that reads `before` and gives `after`.
std::optional<WeightRole> NormAt(const Found& found, int32_t before,
                                 int32_t after, bool bias) {
  if (before < 0) return std::nullopt;
  if (found.form.num_streams > 0) {
    if (const auto role = NormOfStreams(found, after, bias)) return role;
  }
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
      const auto number = static_cast<int32_t>(i);
      if (source == layers[i].router) return RouterBias(number, bias);
      const auto part = NormOf(found, layers[i], source, after);
      if (part) return WeightRole{*part, number, bias};
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

// Of the convolution of layer `number`, which operator `index` is a part of:
// taps, [1, 1, taps, channels] of DEPTHWISE_CONV_2D, or [1, channels, taps]
// that one position and those before it are multiplied with; and its bias.
void NameConvolution(const Found& found, size_t index, int32_t number,
                     Roles& roles) {
  const tflite::Op& op = found.walk.graph().ops[index];
  const auto add = [&](int32_t tensor, bool bias, bool transposed) {
    auto use = VectorUse(found.walk, tensor, {Part::kConvTaps, number, bias});
    if (!use) return;
    use->transposed = transposed;
    use->operand = !bias;
    use->integers = !bias && IsInteger(found.walk.TensorAt(tensor).type);
    roles.uses.push_back(*use);
  };
  if (op.code == tflite::kOpStablehloComposite) {
    // odml.short_conv_step has taps as the checkpoint has them.
    for (const int32_t input : op.inputs) {
      if (found.walk.ConstantOf(input) < 0) continue;
      const auto& shape = found.walk.TensorAt(found.walk.Root(input)).shape;
      add(input, shape.size() == 1, false);
    }
    return;
  }
  if (op.code == tflite::kOpDepthwiseConv2d && op.inputs.size() > 1) {
    add(op.inputs[1], false, true);
    if (op.inputs.size() > 2) add(op.inputs[2], true, false);
    return;
  }
  for (const size_t side : {size_t{0}, size_t{1}}) {
    const int32_t constant = op.inputs[side], other = op.inputs[1 - side];
    if (found.walk.ConstantOf(constant) < 0 || other < 0) continue;
    if (op.code == tflite::kOpMul &&
        found.walk.Elements(constant) == found.walk.Elements(other)) {
      add(constant, false, false);
    } else if (op.code == tflite::kOpAdd &&
               found.walk.IsVector(constant, other)) {
      add(constant, true, false);
    }
  }
}

void NameConvolutions(const Found& found, Roles& roles) {
  const std::vector<tflite::Op>& ops = found.walk.graph().ops;
  const std::vector<Layer>& layers = found.products.layers;
  for (size_t i = 0; i < ops.size(); ++i) {
    const tflite::Op& op = ops[i];
    const bool fits =
        op.code == tflite::kOpDepthwiseConv2d ||
        op.composite.find("short_conv") != std::string::npos ||
        ((op.code == tflite::kOpMul || op.code == tflite::kOpAdd) &&
         op.inputs.size() == 2);
    const Layer* layer = LayerAt(layers, static_cast<int32_t>(i));
    if (!fits || layer == nullptr || !layer->conv || op.inputs.size() < 2) {
      continue;
    }
    const int32_t values =
        found.walk.ConstantOf(op.inputs[0]) < 0 ? op.inputs[0] : op.inputs[1];
    if (values < 0 || found.walk.ProductsBefore(values) != OpSet{layer->k}) {
      continue;
    }
    NameConvolution(found, i, static_cast<int32_t>(layer - layers.data()),
                    roles);
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

}  // namespace

Roles FindRoles(const tflite::File& file, int64_t num_layers, int64_t head_dim,
                bool sub_norms, int64_t num_streams) {
  const ModelForm form = {num_layers, sub_norms, num_streams};
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
                   FindProducts(file, walk, lookups, form, products)) {
      signature.not_understood = *reason;
      roles.not_understood.push_back(graph.signature + ": " + *reason);
    }
    const bool understood = signature.not_understood.empty();
    if (understood) TellLookups(walk, products, lookups);
    NameLookups(walk, lookups, roles, signature);
    if (understood) {
      const Found found = {file, walk, lookups, products, form};
      signature.experts = products.experts;
      const OpSet scale_ops = NameProducts(found, roles, signature);
      NameNorms(found, scale_ops, roles);
      if (num_streams == 0) NameScalars(found, roles);
      NameConvolutions(found, roles);
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
