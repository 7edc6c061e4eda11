#include "mapping/roles.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>

#include "base/error.h"
#include "base/utf8.h"
#include "tflite/interface.h"

namespace verify_tflite {
namespace {

// As the signatures of both converters call them.
constexpr std::string_view kLogits = "logits";
// In names of signatures that look up per-layer embeddings.
constexpr std::string_view kPerLayer = "per_layer_embedder";
// Its outputs are its first two inputs, each written into a cache.
constexpr std::string_view kCacheUpdate = "cache_update";

// Tensors and operators looked at in one graph. A model of 30 layers takes
// 0.28 million, measured; it grows with their square at most. A file made to
// waste time has more.
constexpr int64_t kMostVisits = 30'000'000;

using OpSet = std::set<int32_t>;

bool Contains(const OpSet& set, int32_t op) { return set.count(op) > 0; }

bool IsSubset(const OpSet& set, const OpSet& of) {
  return std::includes(of.begin(), of.end(), set.begin(), set.end());
}

// One layer's products.
struct Layer {
  int32_t k = -1, v = -1, q = -1, o = -1, down = -1;
  int32_t k_cache = -1;  // tensor
  OpSet gate_up;
  int32_t gate = -1, up = -1;  // none where there is one product of both
  bool fused = false;          // k is q and v, too
  int32_t per_layer_gate = -1, per_layer_projection = -1;
  // Of AltUp: each reads its router alone.
  int32_t prediction_router = -1, prediction = -1;
  int32_t correction_router = -1, correction = -1;
  int32_t laurel_left = -1, laurel_right = -1;
  // Its first product. One that takes another layer's keys has no k.
  int32_t First() const {
    if (k < 0) return q;
    return q >= 0 ? std::min(q, k) : k;
  }
};

// The roles of one signature's graph.
class GraphRoles {
 public:
  GraphRoles(const tflite::File& file, const tflite::Graph& graph,
             int64_t head_dim, bool sub_norms, int64_t num_streams,
             Roles& roles)
      : file_(file),
        graph_(graph),
        head_dim_(head_dim),
        sub_norms_(sub_norms),
        num_streams_(num_streams),
        roles_(roles) {
    signature_.signature = graph.signature;
  }

  // Why not, where the graph is not of the form known.
  std::optional<std::string> Find(int64_t num_layers) {
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      const auto op = static_cast<int32_t>(i);
      if (WeightOf(op) >= 0 && RotationOf(op) < 0) linear_.insert(op);
    }
    FindEmbedding();
    if (const auto reason = FindLayers(num_layers)) return reason;
    FindOutputs();
    FindMlps();
    FindPerLayer();
    FindHead();
    FindStreams();
    NameProducts();
    NameVectors();
    if (num_streams_ == 0) NameScalars();
    NoteRope();
    return std::nullopt;
  }

  // Weights of products that have no role, of a graph without caches too.
  void Collect() {
    std::vector<int32_t>& unknown = roles_.unknown;
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      const auto op = static_cast<int32_t>(i);
      const int32_t constant = WeightOf(op);
      if (constant >= 0 && RotationOf(op) < 0) unknown.push_back(constant);
    }
  }

  void FindEmbedding() {
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      const tflite::Op& op = graph_.ops[i];
      int32_t table = -1;
      if (op.code == tflite::kOpEmbeddingLookup && op.inputs.size() == 2) {
        table = ConstantOf(op.inputs[1]);
      } else if (op.code == tflite::kOpGather && op.inputs.size() == 2 &&
                 graph_.tensors[op.inputs[0]].shape.size() == 2) {
        table = ConstantOf(op.inputs[0]);
      }
      if (table < 0) continue;
      embeddings_.insert(static_cast<int32_t>(i));
      const bool per_layer =
          graph_.signature.find(kPerLayer) != std::string::npos;
      Add(table,
          {per_layer ? Part::kPerLayerEmbedding : Part::kEmbedding, -1, false});
      if (op.outputs.empty()) continue;
      const Rotated back = RotatedBack(Dequantised(op.outputs[0]));
      lookups_.emplace_back(roles_.uses.size() - 1, back.tensor);
      signature_.embedding = back.tensor;
      if (back.op >= 0) lookup_rotations_.insert(back.op);
      roles_.uses.back().rotation = back.rotation;
    }
  }

  SignatureRoles& signature() { return signature_; }

 private:
  const tflite::Tensor& TensorAt(int32_t index) const {
    return graph_.tensors[index];
  }

  static bool PassesOn(const tflite::Op& op) {
    return op.code == tflite::kOpReshape || op.code == tflite::kOpDequantize ||
           op.code == tflite::kOpCast || op.code == tflite::kOpSqueeze ||
           op.code == tflite::kOpExpandDims;
  }

  // The tensor that `tensor` is a view of.
  int32_t Root(int32_t tensor) const {
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

  // The float tensor that `tensor` is turned into, where that is all it is for.
  int32_t Dequantised(int32_t tensor) const {
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

  static bool IsInteger(ElementType type) {
    return type == ElementType::kInt8 || type == ElementType::kInt4 ||
           type == ElementType::kInt2;
  }

  int32_t ConstantOf(int32_t tensor) const {
    if (tensor < 0) return -1;
    return TensorAt(Root(tensor)).constant;
  }

  // The constant that the operator multiplies with as a matrix, or -1.
  int32_t WeightOf(int32_t index) const {
    const tflite::Op& op = graph_.ops[index];
    if (op.code != tflite::kOpFullyConnected &&
        op.code != tflite::kOpBatchMatmul && op.code != tflite::kOpConv2d) {
      return -1;
    }
    return op.inputs.size() < 2 ? -1 : ConstantOf(op.inputs[1]);
  }

  int64_t OutputWidth(int32_t op) const {
    const auto& outputs = graph_.ops[op].outputs;
    if (outputs.empty() || outputs[0] < 0) return -1;
    const auto& shape = TensorAt(outputs[0]).shape;
    return shape.empty() ? -1 : shape.back();
  }

  int32_t InputRoot(int32_t op) const {
    const int32_t input = BeforeRotation(graph_.ops[op].inputs[0]).tensor;
    return Root(BeforeScale(input, false).tensor);
  }

  // What gives `tensor` when it is multiplied by a vector that is no norm's:
  // behind a norm, whose own vector stands before it, or, `without_norm`, where
  // no norm can be.
  struct Scaled {
    int32_t tensor = -1;
    int32_t vector = -1;  // constant
    int32_t op = -1;
  };
  Scaled BeforeScale(int32_t tensor, bool without_norm) const {
    const Scaled none = {tensor, -1, -1};
    const int32_t op = ProducerBehindViews(tensor);
    const auto [values, vector] = VectorOperand(op, tflite::kOpMul);
    if (values < 0) return none;
    if (!without_norm && !EndsNorm(ProducerBehindViews(values))) return none;
    return {values, ConstantOf(vector), op};
  }

  // The operator that gives what `tensor` is a view of; -1: none.
  int32_t ProducerBehindViews(int32_t tensor) const {
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

  // Of an operator `code` on values and a constant vector as wide: the two
  // tensors; else -1.
  std::pair<int32_t, int32_t> VectorOperand(int32_t index, int32_t code) const {
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

  // Whether a norm's weight or bias is what the operator applies.
  bool EndsNorm(int32_t index) const {
    if (index < 0) return false;
    const tflite::Op& op = graph_.ops[index];
    if (op.code == tflite::kOpStablehloComposite) {
      return op.composite.find("norm") != std::string::npos;
    }
    return VectorOperand(index, tflite::kOpMul).first >= 0 ||
           VectorOperand(index, tflite::kOpAdd).first >= 0;
  }

  // Of Roles::rotations, where the operator rotates and does nothing else; or
  // -1.
  int32_t RotationOf(int32_t index) const {
    const tflite::Op& op = graph_.ops[index];
    if (op.rotates > 0) return OwnRotation(op);
    if (op.code != tflite::kOpFullyConnected || op.inputs.size() < 2 ||
        op.inputs[0] < 0 || op.inputs[1] < 0 ||
        (op.inputs.size() > 2 && op.inputs[2] >= 0)) {
      return -1;
    }
    const int32_t index_of = TensorAt(op.inputs[1]).constant;
    if (index_of < 0) return -1;
    const tflite::Constant& constant = file_.constants[index_of];
    if (constant.type != ElementType::kFloat32 || !constant.scales.empty() ||
        constant.shape.size() != 2 || constant.shape[0] != constant.shape[1] ||
        Width(op.inputs[0]) != constant.shape[0]) {
      return -1;
    }
    const auto [entry, is_new] = roles_.rotations.try_emplace(index_of);
    if (is_new) {
      entry->second = Known(Rotation::From(constant.shape[0], constant.data));
    }
    return entry->second == nullptr ? -1 : index_of;
  }

  int32_t OwnRotation(const tflite::Op& op) const {
    const auto rotation = Rotation::Sylvester(op.rotates);
    if (!rotation || op.inputs.size() != 1 || op.inputs[0] < 0 ||
        Width(op.inputs[0]) % op.rotates != 0) {
      return -1;
    }
    const auto index = static_cast<int32_t>(
        std::ssize(file_.constants) +
        std::countr_zero(static_cast<uint64_t>(op.rotates)));
    const auto [entry, is_new] = roles_.rotations.try_emplace(index);
    if (is_new) entry->second = Known(rotation);
    return index;
  }

  std::shared_ptr<const Rotation> Known(
      const std::optional<Rotation>& read) const {
    if (!read) return nullptr;
    for (const auto& [index, known] : roles_.rotations) {
      if (known != nullptr && *known == *read) return known;
    }
    return std::make_shared<const Rotation>(*read);
  }

  int64_t Width(int32_t tensor) const {
    const auto& shape = TensorAt(tensor).shape;
    return shape.empty() ? -1 : shape.back();
  }

  static bool Reshapes(const tflite::Op& op) {
    return op.code == tflite::kOpReshape || op.code == tflite::kOpSqueeze ||
           op.code == tflite::kOpExpandDims;
  }

  // A tensor at the other side of a rotation, or the tensor itself and -1.
  struct Rotated {
    int32_t tensor = -1;
    int32_t rotation = -1;
    int32_t op = -1;  // that rotates
  };

  // What is rotated, block by block of its rows, to give `tensor`.
  Rotated BeforeRotation(int32_t tensor) const {
    const Rotated none = {tensor, -1, -1};
    if (tensor < 0) return none;
    int32_t rotation = -1, op = -1;
    int32_t t = tensor;
    while (true) {
      CountVisits();
      const int32_t producer = TensorAt(t).producer;
      if (producer < 0 || graph_.ops[producer].inputs.empty()) return none;
      if (op < 0 && RotationOf(producer) >= 0 &&
          !Contains(lookup_rotations_, producer)) {
        op = producer;
        rotation = RotationOf(producer);
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

  // What `tensor` gives where it is for nothing but to be rotated.
  Rotated RotatedBack(int32_t tensor) const {
    const Rotated none = {tensor, -1, -1};
    if (tensor < 0) return none;
    int32_t rotation = -1, rotated_by = -1;
    int32_t t = tensor;
    while (TensorAt(t).consumers.size() == 1) {
      CountVisits();
      const int32_t consumer = TensorAt(t).consumers[0];
      const tflite::Op& op = graph_.ops[consumer];
      if (rotated_by < 0 && RotationOf(consumer) >= 0) {
        rotated_by = consumer;
        rotation = RotationOf(consumer);
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

  // Rows of both are whole blocks of the rotation.
  bool AreBlocks(int32_t a, int32_t b, int32_t rotation) const {
    const int64_t size = roles_.rotations.at(rotation)->size();
    return Width(a) == Width(b) && Width(a) > 0 && Width(a) % size == 0;
  }

  // Inputs that an output depends on.
  std::vector<int32_t> Sources(int32_t op_index, int32_t output) const {
    const tflite::Op& op = graph_.ops[op_index];
    if (op.composite.find(kCacheUpdate) != std::string::npos &&
        op.outputs.size() == 2 && op.inputs.size() >= 2) {
      return {op.inputs[op.outputs[0] == output ? 0 : 1]};
    }
    return op.inputs;
  }

  void CountVisits(size_t count = 1) const {
    visits_left_ -= static_cast<int64_t>(count);
    if (visits_left_ >= 0) return;
    throw Error(
        "signature {}: its graph is too large to find out what its weights are "
        "for",
        Quote(graph_.signature));
  }

  // The products nearest before a tensor on all ways to it.
  OpSet ProductsBefore(int32_t tensor) const {
    OpSet found;
    std::set<int32_t> seen;
    std::vector<int32_t> open = {tensor};
    while (!open.empty()) {
      const int32_t t = open.back();
      open.pop_back();
      CountVisits();
      if (t < 0 || !seen.insert(t).second) continue;
      const int32_t producer = TensorAt(t).producer;
      if (producer < 0) continue;
      if (Contains(linear_, producer)) {
        found.insert(producer);
        continue;
      }
      CountVisits(graph_.ops[producer].inputs.size());
      for (const int32_t source : Sources(producer, t)) open.push_back(source);
    }
    return found;
  }

  // The products nearest behind a tensor, and the number of operators between.
  OpSet ProductsBehind(int32_t tensor, size_t* between = nullptr) const {
    OpSet found, passed;
    std::vector<int32_t> open = {tensor};
    while (!open.empty()) {
      const int32_t t = open.back();
      open.pop_back();
      if (t < 0) continue;
      CountVisits(1 + TensorAt(t).consumers.size());
      for (const int32_t consumer : TensorAt(t).consumers) {
        if (Contains(linear_, consumer)) {
          found.insert(consumer);
        } else if (passed.insert(consumer).second) {
          for (const int32_t o : graph_.ops[consumer].outputs) {
            open.push_back(o);
          }
        }
      }
    }
    if (between != nullptr) *between = passed.size();
    return found;
  }
  // Whether `target` depends on `tensor` other than through a product.
  bool Reaches(int32_t tensor, int32_t target) const {
    std::set<int32_t> seen;
    std::vector<int32_t> open = {tensor};
    while (!open.empty()) {
      const int32_t t = open.back();
      open.pop_back();
      CountVisits();
      if (t < 0 || !seen.insert(t).second) continue;
      if (t == target) return true;
      CountVisits(TensorAt(t).consumers.size());
      for (const int32_t consumer : TensorAt(t).consumers) {
        if (Contains(linear_, consumer)) continue;
        for (const int32_t o : graph_.ops[consumer].outputs) open.push_back(o);
      }
    }
    return false;
  }
  OpSet ProductsBehindOp(int32_t op, size_t* between = nullptr) const {
    const auto& outputs = graph_.ops[op].outputs;
    return outputs.empty() ? OpSet() : ProductsBehind(outputs[0], between);
  }

  // Layers in the order in which they are computed.
  std::optional<std::string> FindLayers(int64_t num_layers) {
    struct Cache {
      int32_t product;
      int64_t number;
      int32_t tensor;
    };
    std::vector<Cache> keys, values;
    for (const auto& [name, tensor] : graph_.outputs) {
      const auto cache = ParseKvName(name);
      if (!cache) continue;
      const OpSet before = ProductsBefore(tensor);
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
      if (!layers_.empty() && layers_.back().k == k) {
        return "two layers' K caches hold the same";
      }
      Layer layer;
      layer.k = k;
      layer.v = value->product;
      layer.k_cache = k_cache;
      layers_.push_back(layer);
    }
    return std::nullopt;
  }

  void FindOutputs() {
    OpSet others;  // o of layers that take another one's keys and values
    for (Layer& layer : layers_) {
      OpSet behind = ProductsBehindOp(layer.v);
      // The first is its own: the others depend on it.
      if (!behind.empty()) {
        layer.o = *behind.begin();
        others.insert(std::next(behind.begin()), behind.end());
      }
      for (const int32_t op : linear_) {
        if (op == layer.k || op == layer.v ||
            InputRoot(op) != InputRoot(layer.k) || layer.o < 0 ||
            ProductsBehindOp(op) != OpSet{layer.o}) {
          continue;
        }
        layer.q = layer.q == -1 ? op : -2;  // -2: several
      }
      layer.fused = layer.k == layer.v && layer.q == -1 && !GivesKeys(layer);
      if (layer.fused) layer.q = layer.k;
      attention_.insert({layer.k, layer.v});
      if (layer.q >= 0) attention_.insert(layer.q);
    }
    for (const int32_t o : others) AddSharing(o);
    std::stable_sort(
        layers_.begin(), layers_.end(),
        [](const Layer& a, const Layer& b) { return a.First() < b.First(); });
    for (const Layer& layer : layers_) {
      if (layer.o >= 0) outputs_.insert(layer.o);
    }
  }

  // Whether the product of the K cache gives as many numbers as are written
  // there: no queries and no values of their own.
  bool GivesKeys(const Layer& layer) const {
    const int32_t producer = TensorAt(layer.k_cache).producer;
    const auto& made = graph_.ops[layer.k].outputs;
    if (producer < 0 || made.empty() || made[0] < 0) return false;
    const tflite::Op& op = graph_.ops[producer];
    int32_t written = -1;
    if (op.code == tflite::kOpDynamicUpdateSlice && op.inputs.size() > 1) {
      written = op.inputs[1];
    } else if (op.composite.find(kCacheUpdate) != std::string::npos) {
      written = Sources(producer, layer.k_cache)[0];
    }
    return written >= 0 && Elements(written) == Elements(made[0]);
  }

  int64_t Elements(int32_t tensor) const {
    int64_t product = 1;
    for (const int64_t size : TensorAt(tensor).shape) product *= size;
    return product;
  }

  // A layer that takes another one's keys and values.
  void AddSharing(int32_t o) {
    Layer layer;
    layer.o = o;
    for (const int32_t op : linear_) {
      if (Contains(attention_, op) || ProductsBehindOp(op) != OpSet{o})
        continue;
      layer.q = layer.q == -1 ? op : -2;
    }
    if (layer.q < 0) return;
    attention_.insert(layer.q);
    layers_.push_back(layer);
  }

  // down is what no attention's output leads to other than through a product.
  void FindMlps() {
    for (const int32_t op : linear_) {
      if (Contains(attention_, op) || Contains(outputs_, op)) continue;
      const OpSet before = ProductsBefore(graph_.ops[op].inputs[0]);
      const bool is_down =
          !before.empty() && before.size() <= 2 &&
          std::none_of(before.begin(), before.end(), [&](int32_t b) {
            return Contains(outputs_, b) || Contains(attention_, b) ||
                   Contains(downs_, b);
          });
      Layer* layer = LayerAt(op);
      if (!is_down || layer == nullptr || layer->down >= 0) continue;
      layer->down = op;
      layer->gate_up = before;
      downs_.insert(op);
      if (before.size() == 2) OrderGateUp(*layer);
    }
  }

  // The activation stands between gate and down only.
  void OrderGateUp(Layer& layer) const {
    const int32_t a = *layer.gate_up.begin(), b = *layer.gate_up.rbegin();
    size_t behind_a = 0, behind_b = 0;
    ProductsBehindOp(a, &behind_a);
    ProductsBehindOp(b, &behind_b);
    if (behind_a == behind_b) return;
    layer.gate = behind_a > behind_b ? a : b;
    layer.up = behind_a > behind_b ? b : a;
  }

  Layer* LayerAt(int32_t op) {
    Layer* found = nullptr;
    for (Layer& layer : layers_) {
      if (layer.First() < op) found = &layer;
    }
    return found;
  }

  // Of per-layer embeddings: one product of the embedding leads to a projection
  // in each layer, and so does a gate of that layer's own.
  void FindPerLayer() {
    for (const int32_t op : linear_) {
      if (Contains(attention_, op) ||
          !ProductsBefore(graph_.ops[op].inputs[0]).empty()) {
        continue;
      }
      // One for each layer; what makes another residual stream leads to more.
      const OpSet behind = ProductsBehindOp(op);
      if (behind.empty() || behind.size() > layers_.size()) continue;
      for (const int32_t projection : behind) {
        OpSet before = ProductsBefore(graph_.ops[projection].inputs[0]);
        before.erase(op);
        Layer* layer = LayerAt(projection);
        if (before.size() != 1 || layer == nullptr || layer->down < 0 ||
            layer->down >= projection) {
          continue;
        }
        layer->per_layer_projection = projection;
        layer->per_layer_gate = *before.begin();
        per_layer_model_ = op;
      }
    }
    if (lookups_.size() < 2 || layers_.empty()) return;
    for (const auto& [use, tensor] : lookups_) {
      if (Contains(ProductsBehind(tensor), layers_[0].k)) {
        signature_.embedding = tensor;
      } else {
        roles_.uses[use].role.part = Part::kPerLayerEmbedding;
      }
    }
  }

  // Of what leaves a layer: one number that the residual stream is multiplied
  // with.
  void NameScalars() {
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      const tflite::Op& op = graph_.ops[i];
      if (op.code != tflite::kOpMul || op.inputs.size() != 2) continue;
      const Layer* layer = LayerAt(static_cast<int32_t>(i));
      if (layer == nullptr || layer->down < 0) continue;
      for (const int side : {0, 1}) {
        const int32_t constant = ConstantOf(op.inputs[side]);
        if (constant < 0 || file_.constants[constant].elements() != 1) continue;
        const OpSet before = ProductsBefore(op.inputs[1 - side]);
        if (!Contains(before, layer->o) || !Contains(before, layer->down)) {
          continue;
        }
        Add(constant, {Part::kLayerScalar,
                       static_cast<int32_t>(layer - layers_.data()), false});
      }
    }
  }

  void FindHead() {
    for (const auto& [name, tensor] : graph_.outputs) {
      if (!std::string_view(name).starts_with(kLogits)) continue;
      const OpSet before = ProductsBefore(tensor);
      if (before.size() == 1 && !Contains(attention_, *before.begin()) &&
          !Contains(downs_, *before.begin())) {
        head_ = *before.begin();
      }
    }
  }

  // What makes several residual streams of one, mixes them and makes them one
  // again.
  void FindStreams() {
    if (num_streams_ == 0) return;
    FindLaurels();
    for (const int32_t op : linear_) {
      if (op == per_layer_model_ || op == head_) continue;
      if (ProductsBefore(graph_.ops[op].inputs[0]).empty()) {
        stream_projections_.push_back(op);
      } else if (OutputWidth(op) == num_streams_) {
        AddRouter(op);
      } else if (head_ >= 0 && ProductsBehindOp(op) == OpSet{head_}) {
        stream_outputs_.push_back(op);
      }
    }
  }

  // The product behind `op` that reads nothing else; -1: there is none, or
  // others read it, too.
  int32_t OnlyBehind(int32_t op) const {
    const OpSet behind = ProductsBehindOp(op);
    if (behind.size() != 1) return -1;
    const int32_t next = *behind.begin();
    const OpSet before = ProductsBefore(graph_.ops[next].inputs[0]);
    return before == OpSet{op} ? next : -1;
  }

  // Two products beside attention, of what that reads.
  void FindLaurels() {
    for (Layer& layer : layers_) {
      const int32_t input = InputRoot(layer.k >= 0 ? layer.k : layer.q);
      for (const int32_t op : linear_) {
        if (Contains(attention_, op) || InputRoot(op) != input) continue;
        const int32_t next = OnlyBehind(op);
        if (next < 0 || Contains(outputs_, next)) continue;
        layer.laurel_left = op;
        layer.laurel_right = next;
      }
    }
  }

  // A layer is predicted before it is computed and corrected after.
  void AddRouter(int32_t op) {
    const int32_t next = OnlyBehind(op);
    if (next < 0) return;
    if (OutputWidth(next) == num_streams_ * num_streams_) {
      const auto layer = std::find_if(
          layers_.begin(), layers_.end(),
          [&](const Layer& each) { return each.First() > op; });
      if (layer == layers_.end()) return;
      layer->prediction_router = op;
      layer->prediction = next;
    } else if (OutputWidth(next) == num_streams_) {
      Layer* layer = LayerAt(op);
      if (layer == nullptr) return;
      layer->correction_router = op;
      layer->correction = next;
    }
  }

  void NameProducts() {
    OpSet named;
    const auto name = [&](int32_t op, Part part, int32_t layer) {
      if (op < 0) return;
      named.insert(op);
      AddProduct(op, {part, layer, false});
    };
    for (size_t i = 0; i < layers_.size(); ++i) {
      const Layer& l = layers_[i];
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
        const int64_t width = Width(InputRoot(l.down));
        const bool both = width > 0 && OutputWidth(op) == 2 * width;
        name(op, both ? Part::kGateUp : Part::kUp, number);
      } else {
        name(l.gate, Part::kGate, number);
        name(l.up, Part::kUp, number);
      }
    }
    for (size_t i = 0; i < layers_.size(); ++i) {
      const auto number = static_cast<int32_t>(i);
      name(layers_[i].per_layer_gate, Part::kPerLayerGate, number);
      name(layers_[i].per_layer_projection, Part::kPerLayerProjection, number);
      name(layers_[i].prediction_router, Part::kRouter, number);
      name(layers_[i].prediction, Part::kPrediction, number);
      name(layers_[i].correction_router, Part::kRouter, number);
      name(layers_[i].correction, Part::kCorrection, number);
      name(layers_[i].laurel_left, Part::kLaurelLeft, number);
      name(layers_[i].laurel_right, Part::kLaurelRight, number);
    }
    name(per_layer_model_, Part::kPerLayerModelProjection, -1);
    for (size_t i = 0; i < stream_projections_.size(); ++i) {
      name(stream_projections_[i], Part::kStreamProjection,
           static_cast<int32_t>(i));
    }
    for (size_t i = 0; i < stream_outputs_.size(); ++i) {
      name(stream_outputs_[i], Part::kStreamOutput, static_cast<int32_t>(i));
    }
    name(head_, Part::kHead, -1);
    std::sort(
        signature_.products.begin(), signature_.products.end(),
        [](const ProductUse& a, const ProductUse& b) { return a.op < b.op; });
    for (const int32_t op : linear_) {
      if (!Contains(named, op)) roles_.unknown.push_back(WeightOf(op));
    }
  }

  void AddProduct(int32_t index, WeightRole role) {
    const tflite::Op& op = graph_.ops[index];
    const Rotated before = BeforeRotation(op.inputs[0]);
    const Scaled scaled = BeforeScale(
        before.tensor,
        !sub_norms_ && (role.part == Part::kO || role.part == Part::kDown));
    if (scaled.op >= 0) scale_ops_.insert(scaled.op);
    ProductUse product{
        .role = role,
        .constant = WeightOf(index),
        .transposed = op.code == tflite::kOpBatchMatmul && !op.adjoint_y,
        .op = index,
        .input = scaled.tensor,
        .input_scale = scaled.vector,
        .rotation = before.rotation,
        .rotated = before.rotation < 0 ? -1 : op.inputs[0],
        .output = op.outputs.empty() ? -1 : op.outputs[0],
        .quantised_input =
            op.inputs[0] >= 0 && IsInteger(TensorAt(op.inputs[1]).type) &&
            TensorAt(op.inputs[0]).type == ElementType::kFloat32};
    Add(product.constant, role, product.transposed);
    roles_.uses.back().operand = true;
    roles_.uses.back().rotation = product.rotation;
    roles_.uses.back().input_scale = product.input_scale;
    role.bias = true;
    if (op.inputs.size() > 2 && AddVector(op.inputs[2], role, false)) {
      roles_.uses.back().operand = true;
      product.bias = ConstantOf(op.inputs[2]);
    }
    AddBiasBehind(role, product);
    if (product.input >= 0 && product.output >= 0) {
      signature_.products.push_back(product);
    }
  }

  // Some add it by an operator of its own.
  void AddBiasBehind(const WeightRole& role, ProductUse& product) {
    const int32_t output = product.output;
    if (output < 0) return;
    CountVisits(graph_.ops.size());
    for (const tflite::Op& add : graph_.ops) {
      if (add.code != tflite::kOpAdd || add.inputs.size() != 2) continue;
      for (const int32_t side : {0, 1}) {
        const int32_t bias = add.inputs[side], other = add.inputs[1 - side];
        if (other < 0 || Root(other) != output ||
            !AddVector(bias, role, false)) {
          continue;
        }
        // One that is as wide as the product, and the first.
        if (product.bias < 0 && IsVector(bias, other) && !add.outputs.empty() &&
            add.outputs[0] >= 0) {
          product.bias = ConstantOf(bias);
          product.output = add.outputs[0];
        }
      }
    }
  }

  bool AddVector(int32_t tensor, const WeightRole& role, bool composite) {
    const int32_t constant = ConstantOf(tensor);
    if (constant < 0 || TensorAt(Root(tensor)).shape.empty()) return false;
    Add(constant, role, false, composite);
    return true;
  }

  // Norms: vectors that scale, or are added to, what products gave.
  void NameVectors() {
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      const tflite::Op& op = graph_.ops[i];
      const bool composite = op.code == tflite::kOpStablehloComposite &&
                             op.composite.find("norm") != std::string::npos;
      if ((op.code != tflite::kOpMul && op.code != tflite::kOpAdd &&
           !composite) ||
          op.inputs.size() < 2 || op.outputs.empty() ||
          Contains(scale_ops_, static_cast<int32_t>(i))) {
        continue;
      }
      for (size_t side = 0; side < op.inputs.size(); ++side) {
        const int32_t constant = ConstantOf(op.inputs[side]);
        if (constant < 0) continue;
        const int32_t other = op.inputs[side == 0 ? 1 : 0];
        const bool bias = op.code == tflite::kOpAdd || (composite && side == 2);
        const auto role = NormAt(other, op.outputs[0], bias);
        if (role && IsVector(op.inputs[side], other)) {
          AddVector(op.inputs[side], *role, composite && !OnlyScales(op, side));
        }
      }
    }
  }

  // Whether the composite's body does nothing but multiply with that input.
  bool OnlyScales(const tflite::Op& op, size_t input) const {
    if (op.body < 0 || static_cast<size_t>(op.body) >= file_.graphs.size()) {
      return false;
    }
    const tflite::Graph& body = file_.graphs[op.body];
    if (input >= body.input_tensors.size() || body.input_tensors[input] < 0) {
      return false;
    }
    std::set<int32_t> seen;
    std::vector<int32_t> open = {body.input_tensors[input]};
    while (!open.empty()) {
      const int32_t t = open.back();
      open.pop_back();
      CountVisits();
      if (t < 0 || !seen.insert(t).second) continue;
      for (const int32_t consumer : body.tensors[t].consumers) {
        const tflite::Op& next = body.ops[consumer];
        if (next.code == tflite::kOpMul) continue;
        if (!PassesOn(next) && next.code != tflite::kOpBroadcastTo)
          return false;
        open.insert(open.end(), next.outputs.begin(), next.outputs.end());
      }
    }
    return true;
  }

  // As wide as what it scales.
  bool IsVector(int32_t vector, int32_t values) const {
    const auto& a = TensorAt(vector).shape;
    if (values < 0 || a.empty()) return false;
    const auto& b = TensorAt(values).shape;
    if (b.empty() || a.back() != b.back() || a.back() <= 1) return false;
    return std::all_of(a.begin(), a.end() - 1,
                       [](int32_t s) { return s == 1; });
  }

  bool FromEmbedding(int32_t tensor) const {
    std::set<int32_t> seen;
    std::vector<int32_t> open = {tensor};
    while (!open.empty()) {
      const int32_t t = open.back();
      open.pop_back();
      CountVisits();
      if (t < 0 || !seen.insert(t).second) continue;
      for (const auto& [name, input] : graph_.inputs) {
        if (input == t && std::string_view(name).starts_with("embeddings")) {
          return true;
        }
      }
      const int32_t producer = TensorAt(t).producer;
      if (producer < 0) continue;
      if (Contains(embeddings_, producer)) return true;
      if (Contains(linear_, producer)) continue;
      for (const int32_t source : graph_.ops[producer].inputs) {
        open.push_back(source);
      }
    }
    return false;
  }

  // Streams lead from everywhere to everywhere: what counts is the product that
  // reads the norm itself.
  std::optional<WeightRole> NormOfStreamsAt(int32_t after, bool bias) const {
    if (num_streams_ == 0) return std::nullopt;
    const int32_t root = Root(after);
    const auto reads = [&](int32_t op) {
      return op >= 0 && InputRoot(op) == root;
    };
    if (reads(head_)) return WeightRole{Part::kFinalNorm, -1, bias};
    for (size_t i = 0; i < layers_.size(); ++i) {
      const Layer& l = layers_[i];
      const auto role = [&](Part part) {
        return WeightRole{part, static_cast<int32_t>(i), bias};
      };
      if (reads(l.prediction_router) || reads(l.correction_router)) {
        return role(Part::kRouterNorm);
      }
      if (reads(l.k >= 0 ? l.k : l.q)) return role(Part::kInputNorm);
      if (std::any_of(l.gate_up.begin(), l.gate_up.end(), reads)) {
        return role(Part::kMlpNorm);
      }
      if (reads(l.per_layer_gate)) return role(Part::kStreamScale);
    }
    return std::nullopt;
  }

  std::optional<WeightRole> NormAt(int32_t before, int32_t after,
                                   bool bias) const {
    if (before < 0) return std::nullopt;
    if (const auto role = NormOfStreamsAt(after, bias)) return role;
    const OpSet sources = ProductsBefore(before);
    const bool from_embedding = FromEmbedding(before);
    if (sources.empty() && !from_embedding) return std::nullopt;
    if (sources.size() == 1 && !from_embedding) {
      const int32_t source = *sources.begin();
      if (source == per_layer_model_) {
        return WeightRole{Part::kPerLayerModelNorm, -1, bias};
      }
      for (size_t i = 0; i < layers_.size(); ++i) {
        const Layer& l = layers_[i];
        const auto number = static_cast<int32_t>(i);
        if (!l.fused && source == l.q)
          return WeightRole{Part::kQNorm, number, bias};
        if (!l.fused && source == l.k) {
          // Values of the same product have a norm of their own.
          const bool of_keys = l.k != l.v || Reaches(after, l.k_cache);
          return WeightRole{of_keys ? Part::kKNorm : Part::kVNorm, number,
                            bias};
        }
        if (!l.fused && source == l.v)
          return WeightRole{Part::kVNorm, number, bias};
        if (source == l.laurel_right)
          return WeightRole{Part::kLaurelNorm, number, bias};
        if (source == l.per_layer_projection)
          return WeightRole{Part::kPerLayerNorm, number, bias};
        // Heads of a fused product: those of k go into the cache.
        if (l.fused && source == l.k) {
          const Part part =
              Reaches(after, l.k_cache) ? Part::kKNorm : Part::kQNorm;
          return WeightRole{part, number, bias};
        }
        // Sandwich norms: nothing of the residual stream comes in.
        if (source == l.o)
          return WeightRole{Part::kAttentionNorm, number, bias};
        if (source == l.down)
          return WeightRole{Part::kOutputNorm, number, bias};
      }
    }
    const OpSet targets = ProductsBehind(after);
    if (targets.empty()) return std::nullopt;
    if (targets == OpSet{head_}) return WeightRole{Part::kFinalNorm, -1, bias};
    for (size_t i = 0; i < layers_.size(); ++i) {
      const Layer& l = layers_[i];
      const auto number = static_cast<int32_t>(i);
      if (sub_norms_ && targets == OpSet{l.o}) {
        return WeightRole{Part::kAttentionSubNorm, number, bias};
      }
      if (sub_norms_ && targets == OpSet{l.down}) {
        return WeightRole{Part::kMlpSubNorm, number, bias};
      }
      OpSet inputs = {l.k, l.v, l.q};
      OpSet all = inputs;
      all.insert(l.gate_up.begin(), l.gate_up.end());
      const int32_t any = l.k >= 0 ? l.k : l.q;
      if (Contains(targets, any) && IsSubset(targets, all)) {
        return WeightRole{Part::kInputNorm, number, bias};
      }
      if (!l.gate_up.empty() && IsSubset(targets, l.gate_up)) {
        return WeightRole{Part::kMlpNorm, number, bias};
      }
    }
    return std::nullopt;
  }

  // Neighbours that turn are put on an axis of their own.
  void NoteRope() {
    for (const tflite::Tensor& t : graph_.tensors) {
      const size_t rank = t.shape.size();
      if (t.producer < 0 || rank < 3 || t.shape[rank - 1] != 2 ||
          t.shape[rank - 2] != head_dim_ / 2) {
        continue;
      }
      roles_.interleaved_rope = true;
    }
  }

  void Add(int32_t constant, const WeightRole& role, bool transposed = false,
           bool composite = false) {
    if (constant < 0) return;
    roles_.uses.push_back(
        {constant, role, graph_.signature, transposed, composite});
  }

  const tflite::File& file_;
  const tflite::Graph& graph_;
  int64_t head_dim_;
  bool sub_norms_;
  int64_t num_streams_;
  Roles& roles_;
  SignatureRoles signature_;
  OpSet linear_, embeddings_, attention_, outputs_, downs_;
  OpSet scale_ops_;         // part of the product behind, not of a norm
  OpSet lookup_rotations_;  // part of a lookup, not of the product behind
  std::vector<Layer> layers_;
  int32_t per_layer_model_ = -1;
  // Of all streams but the first.
  std::vector<int32_t> stream_projections_, stream_outputs_;
  // Of Roles::uses, and the tensor that each gives.
  std::vector<std::pair<size_t, int32_t>> lookups_;
  int32_t head_ = -1;
  mutable int64_t visits_left_ = kMostVisits;
};

bool HasCaches(const tflite::Graph& graph) {
  return std::any_of(graph.outputs.begin(), graph.outputs.end(),
                     [](const tflite::NamedTensor& output) {
                       const auto name = ParseKvName(output.first);
                       return name && name->part == KvPart::kKeys;
                     });
}

}  // namespace

Roles FindRoles(const tflite::File& file, int64_t num_layers, int64_t head_dim,
                bool sub_norms, int64_t num_streams) {
  Roles roles;
  for (size_t i = 0; i < file.graphs.size(); ++i) {
    const tflite::Graph& graph = file.graphs[i];
    if (graph.signature.empty()) continue;
    GraphRoles finder(file, graph, head_dim, sub_norms, num_streams, roles);
    SignatureRoles& signature = finder.signature();
    signature.graph = static_cast<int32_t>(i);
    if (!HasCaches(graph)) {
      finder.FindEmbedding();
      finder.Collect();
      signature.not_understood = "it has no KV caches";
      roles.signatures.push_back(std::move(signature));
      continue;
    }
    for (const auto& [name, tensor] : graph.inputs) {
      roles.embeddings_input |=
          std::string_view(name).starts_with("embeddings");
    }
    if (const auto reason = finder.Find(num_layers)) {
      finder.Collect();
      signature.not_understood = *reason;
      roles.not_understood.push_back(graph.signature + ": " + *reason);
    }
    roles.signatures.push_back(std::move(signature));
  }
  return roles;
}

}  // namespace verify_tflite
