#include "structure/anchors.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string_view>

namespace verify_tflite {
namespace {

constexpr std::string_view kKeyCaches[] = {"kv_cache_k_", "k_cache_"};
constexpr std::string_view kValueCaches[] = {"kv_cache_v_", "v_cache_"};

// The products of one layer.
struct LayerProducts {
  const Product* qkv = nullptr;  // or q, k and v
  const Product* q = nullptr;
  const Product* k = nullptr;
  const Product* v = nullptr;
  const Product* o = nullptr;
  const Product* gate_up = nullptr;  // or gate and up
  const Product* gate = nullptr;
  const Product* up = nullptr;
  const Product* down = nullptr;
};

class AnchorFinder {
 public:
  AnchorFinder(const AuditedGraph& graph, const SignatureGraph& signature,
               const ModelConfig& config, int64_t rows)
      : graph_(graph), signature_(signature), config_(config), rows_(rows) {}

  Anchors Find() {
    layers_.resize(config_.layers.size());
    for (const Product& product : signature_.products) Sort(product);
    AddEmbedding();
    for (size_t i = 0; i < layers_.size(); ++i) AddLayer(i);
    AddHead();
    AddCaches();
    return std::move(anchors_);
  }

 private:
  void Sort(const Product& product) {
    if (product.role.part == Part::kHead) head_ = &product;
    const auto layer = static_cast<size_t>(product.role.layer);
    if (product.role.layer < 0 || layer >= layers_.size()) return;
    LayerProducts& l = layers_[layer];
    switch (product.role.part) {
      case Part::kQkv:
        l.qkv = &product;
        break;
      case Part::kQ:
        l.q = &product;
        break;
      case Part::kK:
        l.k = &product;
        break;
      case Part::kV:
        l.v = &product;
        break;
      case Part::kO:
        l.o = &product;
        break;
      case Part::kGateUp:
        l.gate_up = &product;
        break;
      case Part::kGate:
        l.gate = &product;
        break;
      case Part::kUp:
        l.up = &product;
        break;
      case Part::kDown:
        l.down = &product;
        break;
      default:
        break;
    }
  }

  void Add(Stage stage, int64_t layer, Anchor anchor) {
    anchors_[{stage, layer}] = std::move(anchor);
  }
  void AddInput(Stage stage, int64_t layer, const Product* product) {
    if (product == nullptr) return;
    Add(stage, layer, {Anchor::Kind::kInput, {product->input}, product});
    if (product->rotated < 0) return;
    Add(*RotatedOf(stage), layer,
        {Anchor::Kind::kTensor, {product->rotated}, nullptr});
  }
  void AddOutput(Stage stage, int64_t layer, const Product* product,
                 Part part) {
    if (product == nullptr) return;
    Add(stage, layer,
        {Anchor::Kind::kOutput, {product->output}, product, part});
  }

  static int32_t FirstOp(const LayerProducts& l) {
    int32_t first = -1;
    for (const Product* p : {l.qkv, l.q, l.k, l.v}) {
      if (p != nullptr && (first < 0 || p->op < first)) first = p->op;
    }
    return first;
  }
  static int32_t MlpOp(const LayerProducts& l) {
    int32_t first = -1;
    for (const Product* p : {l.gate_up, l.gate, l.up}) {
      if (p != nullptr && (first < 0 || p->op < first)) first = p->op;
    }
    return first;
  }

  // Tensors of operators in (begin, end) that have a row of hidden_size for
  // each token; of those `code`s only, if there are some.
  std::vector<int32_t> Between(int32_t begin, int32_t end,
                               std::span<const int32_t> codes) const {
    std::vector<int32_t> found;
    const auto last = std::min<int32_t>(end, std::ssize(graph_.ops));
    for (int32_t i = begin + 1; i < last; ++i) {
      const AuditedOp& op = graph_.ops[i];
      const bool fits = codes.empty() || std::find(codes.begin(), codes.end(),
                                                   op.code) != codes.end();
      if (!fits) continue;
      for (const int32_t tensor : op.outputs) {
        if (tensor >= 0 && IsHidden(tensor)) found.push_back(tensor);
      }
    }
    return found;
  }

  bool IsHidden(int32_t tensor) const {
    const auto& shape = graph_.tensors[tensor].shape;
    if (shape.empty() || shape.back() != config_.hidden_size) return false;
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    return shape.size() > 1 && rows > 0 && rows % rows_ == 0;
  }

  void AddBetween(Stage stage, int64_t layer, int32_t begin, int32_t end,
                  std::initializer_list<int32_t> codes) {
    if (begin < 0 || end < 0) return;
    std::vector<int32_t> tensors =
        Between(begin, end, {codes.begin(), codes.size()});
    if (!tensors.empty()) {
      Add(stage, layer, {Anchor::Kind::kTensor, std::move(tensors)});
    }
  }

  void AddEmbedding() {
    if (signature_.embedding < 0 || layers_.empty()) return;
    const int32_t lookup = graph_.tensors[signature_.embedding].producer;
    AddBetween(Stage::kEmbedding, -1, lookup - 1, FirstOp(layers_[0]),
               {graph_.ops[lookup].code, kOpMul, kOpReshape, kOpDequantize});
  }

  void AddLayer(size_t index) {
    const LayerProducts& l = layers_[index];
    const auto layer = static_cast<int64_t>(index);
    const Product* q = l.qkv != nullptr ? l.qkv : l.q;
    const Product* k = l.qkv != nullptr ? l.qkv : l.k;
    const Product* v = l.qkv != nullptr ? l.qkv : l.v;
    AddInput(Stage::kInputNorm, layer, k);
    AddOutput(Stage::kQueryProjection, layer, q, Part::kQ);
    AddOutput(Stage::kKeyProjection, layer, k, Part::kK);
    AddOutput(Stage::kValueProjection, layer, v, Part::kV);
    AddInput(Stage::kAttention, layer, l.o);
    AddOutput(Stage::kAttentionOutput, layer, l.o, Part::kO);
    const Product* gate = l.gate_up != nullptr ? l.gate_up : l.gate;
    const Product* up = l.gate_up != nullptr ? l.gate_up : l.up;
    AddInput(Stage::kMlpNorm, layer, up);
    AddOutput(Stage::kGateProjection, layer, gate, Part::kGate);
    AddOutput(Stage::kUpProjection, layer, up, Part::kUp);
    AddInput(Stage::kMlpInner, layer, l.down);
    AddOutput(Stage::kMlpOutput, layer, l.down, Part::kDown);
    AddResiduals(index);
  }

  void AddResiduals(size_t index) {
    const LayerProducts& l = layers_[index];
    const auto layer = static_cast<int64_t>(index);
    const bool last = index + 1 == layers_.size();
    const int32_t next = !last              ? FirstOp(layers_[index + 1])
                         : head_ != nullptr ? head_->op
                                            : -1;
    const int32_t o = l.o == nullptr ? -1 : l.o->op;
    const int32_t down = l.down == nullptr ? -1 : l.down->op;
    if (config_.sandwich_norms) {
      AddBetween(Stage::kAttentionNorm, layer, o, MlpOp(l),
                 {kOpMul, kOpComposite});
      AddBetween(Stage::kOutputNorm, layer, down, next, {kOpMul, kOpComposite});
    }
    if (!config_.parallel_block) {
      AddBetween(Stage::kAfterAttention, layer, o, MlpOp(l), {kOpAdd});
    }
    AddBetween(Stage::kAfterMlp, layer,
               config_.parallel_block ? std::max(o, down) : down, next,
               {kOpAdd});
  }

  void AddHead() {
    AddInput(Stage::kFinalNorm, -1, head_);
    AddOutput(Stage::kHead, -1, head_, Part::kHead);
  }

  void AddCaches() {
    for (const auto& [name, tensor] : graph_.outputs) {
      const auto is = [&](const auto& prefixes) {
        return std::any_of(std::begin(prefixes), std::end(prefixes),
                           [&](std::string_view prefix) {
                             return std::string_view(name).starts_with(prefix);
                           });
      };
      const bool key = is(kKeyCaches);
      if (!key && !is(kValueCaches)) continue;
      const std::string_view number =
          std::string_view(name).substr(name.rfind('_') + 1);
      int64_t layer = -1;
      std::from_chars(number.data(), number.data() + number.size(), layer);
      if (layer < 0 || layer >= std::ssize(layers_)) continue;
      Add(key ? Stage::kKey : Stage::kValue, layer,
          {Anchor::Kind::kKvCache, {tensor}});
    }
  }

  const AuditedGraph& graph_;
  const SignatureGraph& signature_;
  const ModelConfig& config_;
  int64_t rows_;
  std::vector<LayerProducts> layers_;
  const Product* head_ = nullptr;
  Anchors anchors_;
};

// Marks the operators before `tensors`, as far as `stop` lets it.
std::set<int32_t> OpsBefore(const AuditedGraph& graph,
                            std::vector<int32_t> tensors,
                            const std::set<int32_t>& stop) {
  std::set<int32_t> ops;
  while (!tensors.empty()) {
    const int32_t tensor = tensors.back();
    tensors.pop_back();
    if (tensor < 0) continue;
    const int32_t producer = graph.tensors[tensor].producer;
    if (producer < 0 || !ops.insert(producer).second) continue;
    for (const int32_t input : graph.ops[producer].inputs) {
      if (input >= 0 && !stop.contains(input)) tensors.push_back(input);
    }
  }
  return ops;
}

}  // namespace

Anchors FindAnchors(const FileGraph& file, const SignatureGraph& graph,
                    const ModelConfig& config, int64_t rows) {
  if (graph.graph < 0) return {};
  return AnchorFinder(file.file.graphs[graph.graph], graph, config, rows)
      .Find();
}

Coverage FindCoverage(const AuditedGraph& graph,
                      std::span<const int32_t> agreeing,
                      std::span<const int32_t> differing) {
  std::set<int32_t> compared(agreeing.begin(), agreeing.end());
  compared.insert(differing.begin(), differing.end());
  std::vector<int32_t> outputs;
  for (const auto& [name, tensor] : graph.outputs) outputs.push_back(tensor);
  const std::set<int32_t> needed = OpsBefore(graph, outputs, {});
  const std::set<int32_t> before =
      OpsBefore(graph, {agreeing.begin(), agreeing.end()}, compared);
  Coverage coverage;
  coverage.needed.assign(needed.begin(), needed.end());
  std::set_intersection(needed.begin(), needed.end(), before.begin(),
                        before.end(), std::back_inserter(coverage.verified));
  return coverage;
}

}  // namespace verify_tflite
