#include "structure/anchors.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>

#include "tflite/interface.h"

namespace verify_tflite {
namespace {

constexpr std::string_view kAttentionComposite = "scaled_dot_product_attention";

class AnchorFinder {
 public:
  AnchorFinder(const tflite::Graph& graph, const SignatureGraph& signature,
               const ModelConfig& config, int64_t rows)
      : graph_(graph), signature_(signature), config_(config), rows_(rows) {}

  Anchors Find() {
    for (const Product& product : signature_.products) {
      const Key place = {product.role.layer, product.role.part,
                         product.role.expert};
      // A layer's router is read twice: what predicts comes first.
      const bool corrects =
          product.role.part == Part::kStreamRouter && products_.contains(place);
      (corrects ? correction_routers_ : products_)[place] = &product;
    }
    AddEmbedding();
    AddPerLayerInputs();
    for (int64_t i = 0; i < std::ssize(config_.layers); ++i) AddLayer(i);
    AddStreams();
    AddHead();
    AddCaches();
    return std::move(anchors_);
  }

 private:
  // The product of a layer (-1: of none) that is the first of `parts` to be
  // there; null if none is.
  const Product* ProductOf(int64_t layer, std::initializer_list<Part> parts,
                           int64_t expert = -1) const {
    for (const Part part : parts) {
      const auto found = products_.find({layer, part, expert});
      if (found != products_.end()) return found->second;
    }
    return nullptr;
  }

  void Add(Stage stage, int64_t layer, Anchor anchor, int64_t expert = -1) {
    anchors_[{stage, layer, expert}] = std::move(anchor);
  }
  void AddInput(Stage stage, int64_t layer, const Product* product) {
    if (product == nullptr) return;
    Add(stage, layer, {Anchor::Kind::kInput, {product->input}, product});
    if (product->rotated < 0 || !RotatedOf(stage)) return;
    Add(*RotatedOf(stage), layer,
        {Anchor::Kind::kTensor, {product->rotated}, nullptr});
  }
  void AddOutput(Stage stage, int64_t layer, const Product* product, Part part,
                 int64_t expert = -1) {
    if (product == nullptr) return;
    Add(stage, layer, {Anchor::Kind::kOutput, {product->output}, product, part},
        expert);
  }

  // The first operator of several products of a layer; -1 without.
  int32_t FirstOp(int64_t layer, std::initializer_list<Part> parts) const {
    int32_t first = -1;
    for (const Part part : parts) {
      const Product* product = ProductOf(layer, {part});
      if (product != nullptr && (first < 0 || product->op < first)) {
        first = product->op;
      }
    }
    return first;
  }
  int32_t AttentionOp(int64_t layer) const {
    return FirstOp(
        layer, {Part::kQkv, Part::kQ, Part::kK, Part::kV, Part::kConvInput});
  }
  int32_t MlpOp(int64_t layer) const {
    return FirstOp(layer, {Part::kGateUp, Part::kGate, Part::kUp, Part::kRouter,
                           Part::kSharedGateUp, Part::kSharedGate,
                           Part::kSharedUp, Part::kSharedScale});
  }

  // Tensors of operators in (begin, end) that have a row of hidden_size for
  // each token; of those `code`s only, if there are some.
  std::vector<int32_t> Between(int32_t begin, int32_t end,
                               std::span<const int32_t> codes) const {
    std::vector<int32_t> found;
    const auto last = std::min<int32_t>(end, std::ssize(graph_.ops));
    for (int32_t i = begin + 1; i < last; ++i) {
      const tflite::Op& op = graph_.ops[i];
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
    if (signature_.embedding < 0) return AddEmbeddingInput();
    const int32_t lookup = graph_.tensors[signature_.embedding].producer;
    AddBetween(Stage::kEmbedding, -1, lookup - 1, AttentionOp(0),
               {graph_.ops[lookup].code, tflite::kOpMul, tflite::kOpReshape,
                tflite::kOpDequantize, tflite::kOpQuantize});
  }

  void AddLayer(int64_t layer) {
    const auto add_output = [&](Stage stage, Part part, Part fused) {
      AddOutput(stage, layer, ProductOf(layer, {fused, part}), part);
    };
    AddInput(Stage::kInputNorm, layer,
             ProductOf(layer, {Part::kQkv, Part::kK, Part::kQ}));
    add_output(Stage::kQueryProjection, Part::kQ, Part::kQkv);
    add_output(Stage::kKeyProjection, Part::kK, Part::kQkv);
    add_output(Stage::kValueProjection, Part::kV, Part::kQkv);
    if (signature_.integer_activations) AddQuery(layer);
    AddInput(Stage::kAttention, layer, ProductOf(layer, {Part::kO}));
    add_output(Stage::kAttentionOutput, Part::kO, Part::kO);
    AddInput(Stage::kMlpNorm, layer,
             ProductOf(layer, {Part::kGateUp, Part::kUp, Part::kRouter}));
    add_output(Stage::kGateProjection, Part::kGate, Part::kGateUp);
    add_output(Stage::kUpProjection, Part::kUp, Part::kGateUp);
    AddInput(Stage::kMlpInner, layer, ProductOf(layer, {Part::kDown}));
    add_output(Stage::kMlpOutput, Part::kDown, Part::kDown);
    if (config_.layers[static_cast<size_t>(layer)].experts) AddExperts(layer);
    if (config_.layers[static_cast<size_t>(layer)].conv) AddConvolution(layer);
    add_output(Stage::kPerLayerGate, Part::kPerLayerGate, Part::kPerLayerGate);
    AddInput(Stage::kPerLayerInner, layer,
             ProductOf(layer, {Part::kPerLayerProjection}));
    add_output(Stage::kPerLayerOutput, Part::kPerLayerProjection,
               Part::kPerLayerProjection);
    if (config_.num_streams > 0) AddAltUp(layer);
    AddResiduals(layer);
  }

  void AddConvolution(int64_t layer) {
    const Product* input = ProductOf(layer, {Part::kConvInput});
    const Product* output = ProductOf(layer, {Part::kConvOutput});
    if (input == nullptr) return;
    AddInput(Stage::kInputNorm, layer, input);
    AddOutput(Stage::kConvProjection, layer, input, Part::kConvInput);
    AddInput(Stage::kConvGated, layer, output);
    AddOutput(Stage::kAttentionOutput, layer, output, Part::kConvOutput);
    const auto end = static_cast<int32_t>(std::ssize(graph_.ops));
    AddBetween(Stage::kConvInput, layer, input->op,
               output == nullptr ? end : output->op, {tflite::kOpMul});
  }

  void AddAltUp(int64_t layer) {
    const auto add = [&](const Product* router, Part part, Stage input,
                         Stage output, Stage modalities, Stage coefficients) {
      AddInput(input, layer, router);
      AddOutput(output, layer, router, Part::kStreamRouter);
      AddInput(modalities, layer, ProductOf(layer, {part}));
      AddOutput(coefficients, layer, ProductOf(layer, {part}), part);
    };
    add(ProductOf(layer, {Part::kStreamRouter}), Part::kPrediction,
        Stage::kPredictionInput, Stage::kPredictionRouter,
        Stage::kPredictionModalities, Stage::kPredictionCoefficients);
    const auto found =
        correction_routers_.find({layer, Part::kStreamRouter, -1});
    add(found == correction_routers_.end() ? nullptr : found->second,
        Part::kCorrection, Stage::kCorrectionInput, Stage::kCorrectionRouter,
        Stage::kCorrectionModalities, Stage::kCorrectionCoefficients);
    AddInput(Stage::kPerLayerEntry, layer,
             ProductOf(layer, {Part::kPerLayerGate}));
    const int32_t left = FirstOp(layer, {Part::kLaurelLeft});
    const int32_t right = FirstOp(layer, {Part::kLaurelRight});
    AddBetween(Stage::kPrediction, layer, FirstOp(layer, {Part::kPrediction}),
               left < 0 ? AttentionOp(layer) : left,
               {tflite::kOpReshape, tflite::kOpSlice, tflite::kOpAdd});
    for (const auto& [stage, part] :
         {std::pair(Stage::kLaurelLeft, Part::kLaurelLeft),
          std::pair(Stage::kLaurelRight, Part::kLaurelRight)}) {
      AddOutput(stage, layer, ProductOf(layer, {part}), part);
    }
    AddBetween(Stage::kLaurelNorm, layer, right, FirstOp(layer, {Part::kO}),
               {tflite::kOpMul, tflite::kOpStablehloComposite});
  }

  void AddStreams() {
    for (int64_t i = 0; i + 1 < config_.num_streams; ++i) {
      AddOutput(Stage::kStreamProjection, i,
                ProductOf(i, {Part::kStreamProjection}),
                Part::kStreamProjection);
      const Product* output = ProductOf(i, {Part::kStreamOutput});
      AddInput(Stage::kStreamInput, i, output);
      AddOutput(Stage::kStreamOutput, i, output, Part::kStreamOutput);
    }
  }

  // The first operator behind a layer.
  int32_t Behind(int64_t layer) const {
    const bool last = layer + 1 == std::ssize(config_.layers);
    if (config_.num_streams > 0) {
      return last ? FirstOp(0, {Part::kStreamOutput})
                  : FirstOp(layer + 1, {Part::kStreamRouter});
    }
    return last ? FirstOp(-1, {Part::kHead}) : AttentionOp(layer + 1);
  }

  void AddExperts(int64_t layer) {
    const auto add_output = [&](Stage stage, Part part, Part fused,
                                int64_t expert = -1) {
      AddOutput(stage, layer, ProductOf(layer, {fused, part}, expert), part,
                expert);
    };
    add_output(Stage::kRouter, Part::kRouter, Part::kRouter);
    AddExpertWeights(layer);
    for (int64_t i = 0; i < config_.experts.count; ++i) {
      add_output(Stage::kExpertGate, Part::kExpertGate, Part::kExpertGateUp, i);
      add_output(Stage::kExpertUp, Part::kExpertUp, Part::kExpertGateUp, i);
      add_output(Stage::kExpertOutput, Part::kExpertDown, Part::kExpertDown, i);
      const Product* down = ProductOf(layer, {Part::kExpertDown}, i);
      if (down == nullptr) continue;
      Add(Stage::kExpertInner, layer,
          {Anchor::Kind::kInput, {down->input}, down}, i);
    }
    add_output(Stage::kGateProjection, Part::kSharedGate, Part::kSharedGateUp);
    add_output(Stage::kUpProjection, Part::kSharedUp, Part::kSharedGateUp);
    AddInput(Stage::kMlpInner, layer, ProductOf(layer, {Part::kSharedDown}));
    add_output(Stage::kMlpOutput, Part::kSharedDown, Part::kSharedDown);
    add_output(Stage::kSharedScale, Part::kSharedScale, Part::kSharedScale);
  }

  // Where the graph has all experts.
  void AddExpertWeights(int64_t layer) {
    Anchor anchor = {Anchor::Kind::kColumns, {}, nullptr};
    anchor.tensors.resize(static_cast<size_t>(config_.experts.count), -1);
    for (const ExpertUse& use : signature_.experts) {
      if (use.layer != layer) continue;
      if (use.expert >= config_.experts.count) return;
      anchor.tensors[static_cast<size_t>(use.expert)] = use.weight;
    }
    if (std::ranges::count(anchor.tensors, -1) > 0) return;
    Add(Stage::kExpertWeights, layer, std::move(anchor));
  }

  // The last operator of the MLP's products, all experts' among them.
  int32_t LastDown(int64_t layer) const {
    int32_t last = -1;
    for (const Product& product : signature_.products) {
      const Part part = product.role.part;
      if (product.role.layer == layer &&
          (part == Part::kDown || part == Part::kExpertDown ||
           part == Part::kSharedDown)) {
        last = std::max(last, product.op);
      }
    }
    return last;
  }

  // What an embedder of its own makes.
  void AddEmbeddingInput() {
    for (const auto& [name, tensor] : graph_.inputs) {
      if (!name.starts_with("embeddings")) continue;
      Add(Stage::kEmbedding, -1, {Anchor::Kind::kTensor, {tensor}});
    }
  }

  void AddPerLayerInputs() {
    const Product* product = ProductOf(-1, {Part::kPerLayerModelProjection});
    const int32_t end = FirstOp(0, {Part::kPerLayerProjection});
    if (product == nullptr || end < 0) return;
    AddOutput(Stage::kPerLayerModelProjection, -1, product,
              Part::kPerLayerModelProjection);
    const int64_t row = config_.num_layers * config_.per_layer_size;
    Anchor anchor = {Anchor::Kind::kTensor, {}, nullptr};
    for (int32_t i = product->op + 1; i < end; ++i) {
      const tflite::Op& op = graph_.ops[static_cast<size_t>(i)];
      if (op.code != tflite::kOpAdd && op.code != tflite::kOpMul) continue;
      for (const int32_t tensor : op.outputs) {
        if (tensor >= 0 && HasRows(tensor, row))
          anchor.tensors.push_back(tensor);
      }
    }
    if (!anchor.tensors.empty()) Add(Stage::kPerLayerInputs, -1, anchor);
  }

  // Whether there are `size` numbers for each token.
  bool HasRows(int32_t tensor, int64_t size) const {
    int64_t elements = 1;
    for (const int64_t dim : graph_.tensors[tensor].shape) elements *= dim;
    return elements > 0 && elements % (rows_ * size) == 0;
  }

  // Where it is rounded: the integers that attention in float reads. Another
  // order than [rows, heads, numbers of a head] is not looked for.
  void AddQuery(int64_t layer) {
    const int32_t end = FirstOp(layer, {Part::kO});
    for (int32_t i = AttentionOp(layer) + 1; i < end; ++i) {
      const tflite::Op& op = graph_.ops[i];
      if (op.composite.find(kAttentionComposite) == std::string::npos ||
          op.inputs.empty()) {
        continue;
      }
      const int32_t query = QueryBefore(op.inputs[0], layer);
      if (query >= 0) {
        Add(Stage::kQuery, layer, {Anchor::Kind::kTensor, {query}});
      }
    }
  }

  // Of the tensors that are reshaped and made float to give `tensor`, the one
  // of integers and of that order; -1: none.
  int32_t QueryBefore(int32_t tensor, int64_t layer) const {
    while (tensor >= 0) {
      if (graph_.tensors[tensor].scale && IsQuery(tensor, layer)) return tensor;
      const int32_t producer = graph_.tensors[tensor].producer;
      if (producer < 0) return -1;
      const tflite::Op& op = graph_.ops[producer];
      if ((op.code != tflite::kOpDequantize && op.code != tflite::kOpReshape) ||
          op.inputs.empty() || op.inputs[0] < 0 ||
          graph_.tensors[op.inputs[0]].producer >= producer) {
        return -1;
      }
      tensor = op.inputs[0];
    }
    return -1;
  }

  bool IsQuery(int32_t tensor, int64_t layer) const {
    const auto& shape = graph_.tensors[tensor].shape;
    const size_t rank = shape.size();
    const LayerConfig& sizes = config_.layers[static_cast<size_t>(layer)];
    return rank >= 3 && shape[rank - 1] == sizes.head_dim &&
           shape[rank - 2] == sizes.num_heads && shape[rank - 3] == rows_;
  }

  void AddResiduals(int64_t layer) {
    const int32_t next = Behind(layer);
    const int32_t o = FirstOp(layer, {Part::kO, Part::kConvOutput});
    const int32_t down = LastDown(layer);
    const int32_t mlp = MlpOp(layer);
    const int32_t gate = FirstOp(layer, {Part::kPerLayerGate});
    const int32_t projection = FirstOp(layer, {Part::kPerLayerProjection});
    const int32_t behind_mlp = gate < 0 ? next : gate;
    if (config_.sandwich_norms) {
      AddBetween(Stage::kAttentionNorm, layer, o, mlp,
                 {tflite::kOpMul, tflite::kOpStablehloComposite});
      AddBetween(Stage::kOutputNorm, layer, down, behind_mlp,
                 {tflite::kOpMul, tflite::kOpStablehloComposite});
    }
    if (!config_.parallel_block) {
      // With Laurel, the sum is divided.
      if (config_.laurel_rank > 0) {
        AddBetween(Stage::kAfterAttention, layer, o, mlp,
                   {tflite::kOpMul, tflite::kOpDiv});
      } else {
        AddBetween(Stage::kAfterAttention, layer, o, mlp, {tflite::kOpAdd});
      }
    }
    AddBetween(Stage::kAfterMlp, layer,
               config_.parallel_block ? std::max(o, down) : down, behind_mlp,
               {tflite::kOpAdd});
    AddBetween(Stage::kPerLayerNorm, layer, projection, next,
               {tflite::kOpMul, tflite::kOpStablehloComposite});
    if (config_.num_streams == 0) {
      AddBetween(Stage::kAfterPerLayer, layer, projection, next,
                 {tflite::kOpAdd});
    }
    if (config_.layer_scalar) {
      AddBetween(Stage::kLayerOutput, layer, std::max(down, projection), next,
                 {tflite::kOpMul});
    }
  }

  void AddHead() {
    const Product* head = ProductOf(-1, {Part::kHead});
    AddInput(Stage::kFinalNorm, -1, head);
    AddOutput(Stage::kHead, -1, head, Part::kHead);
  }

  void AddCaches() {
    for (const auto& [name, tensor] : graph_.outputs) {
      const auto cache = ParseKvName(name);
      if (!cache || cache->layer >= std::ssize(config_.layers)) continue;
      if (cache->part == KvPart::kConvState) {
        Add(Stage::kConvState, cache->layer, {Anchor::Kind::kState, {tensor}});
        continue;
      }
      Add(cache->part == KvPart::kKeys ? Stage::kKey : Stage::kValue,
          cache->layer, {Anchor::Kind::kKvCache, {tensor}});
    }
  }

  const tflite::Graph& graph_;
  const SignatureGraph& signature_;
  const ModelConfig& config_;
  int64_t rows_;
  using Key = std::tuple<int64_t, Part, int64_t>;  // layer, part, expert
  std::map<Key, const Product*> products_;
  std::map<Key, const Product*> correction_routers_;
  Anchors anchors_;
};

// Marks the operators before `tensors`, as far as `stop` lets it.
std::set<int32_t> OpsBefore(const tflite::Graph& graph,
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
  return AnchorFinder(file.file->graphs[graph.graph], graph, config, rows)
      .Find();
}

Coverage FindCoverage(const tflite::Graph& graph,
                      std::span<const int32_t> agreeing,
                      std::span<const int32_t> differing) {
  std::set<int32_t> compared(agreeing.begin(), agreeing.end());
  compared.insert(differing.begin(), differing.end());
  // One tensor may hold several stages, of which one differs.
  std::vector<int32_t> right;
  std::copy_if(agreeing.begin(), agreeing.end(), std::back_inserter(right),
               [&](int32_t tensor) {
                 return std::find(differing.begin(), differing.end(), tensor) ==
                        differing.end();
               });
  std::vector<int32_t> outputs;
  for (const auto& [name, tensor] : graph.outputs) outputs.push_back(tensor);
  const std::set<int32_t> needed = OpsBefore(graph, outputs, {});
  const std::set<int32_t> before = OpsBefore(graph, std::move(right), compared);
  Coverage coverage;
  coverage.needed.assign(needed.begin(), needed.end());
  std::set_intersection(needed.begin(), needed.end(), before.begin(),
                        before.end(), std::back_inserter(coverage.verified));
  return coverage;
}

}  // namespace verify_tflite
