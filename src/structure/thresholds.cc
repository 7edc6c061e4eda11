#include "structure/thresholds.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <map>
#include <utility>

#include "mapping/stored.h"
#include "structure/dependence.h"

namespace verify_tflite {
namespace {

constexpr double kHalfMax = 65504;
constexpr int kMostDepth = 8;

// By number of BuiltinOperator, ascending. A smooth function that is not the
// model's differs from the model's at every number; one that moves numbers
// about does so whatever they are.
constexpr int32_t kSmooth[] = {
    tflite::kOpAdd,
    tflite::kOpConcatenation,
    tflite::kOpConv2d,
    tflite::kOpDepthwiseConv2d,
    tflite::kOpDequantize,
    tflite::kOpEmbeddingLookup,
    tflite::kOpFullyConnected,
    tflite::kOpL2Normalization,
    tflite::kOpLogistic,
    tflite::kOpMul,
    tflite::kOpReshape,
    tflite::kOpSoftmax,
    tflite::kOpTanh,
    tflite::kOpPad,
    tflite::kOpGather,
    tflite::kOpTranspose,
    tflite::kOpMean,
    tflite::kOpSub,
    tflite::kOpDiv,
    tflite::kOpSqueeze,
    tflite::kOpStridedSlice,
    tflite::kOpExp,
    tflite::kOpSplit,
    tflite::kOpLogSoftmax,
    tflite::kOpCast,  // to floats
    tflite::kOpNeg,
    tflite::kOpPadv2,
    tflite::kOpSelect,  // by a mask or by a comparison that is none of these
    tflite::kOpSlice,
    tflite::kOpSin,
    tflite::kOpTile,
    tflite::kOpExpandDims,
    tflite::kOpLog,
    tflite::kOpSum,
    tflite::kOpSqrt,
    tflite::kOpRsqrt,
    tflite::kOpShape,
    tflite::kOpPow,
    tflite::kOpReduceMax,  // which softmax subtracts
    tflite::kOpPack,
    tflite::kOpLogicalOr,
    tflite::kOpLogicalAnd,
    tflite::kOpLogicalNot,
    tflite::kOpUnpack,
    tflite::kOpSquare,
    tflite::kOpZerosLike,
    tflite::kOpFill,
    tflite::kOpSquaredDifference,
    tflite::kOpSplitV,
    tflite::kOpGatherNd,
    tflite::kOpCos,
    tflite::kOpQuantize,
    tflite::kOpScatterNd,
    tflite::kOpSelectV2,
    tflite::kOpBatchMatmul,
    tflite::kOpCumsum,
    tflite::kOpBroadcastTo,
    tflite::kOpGelu,
    tflite::kOpDynamicUpdateSlice,
    tflite::kOpStablehloComposite,  // by what it holds
};
static_assert(std::ranges::is_sorted(kSmooth));

bool IsFloat(ElementType type) {
  return type == ElementType::kFloat32 || type == ElementType::kFloat16 ||
         type == ElementType::kBFloat16;
}

class Finder {
 public:
  explicit Finder(const tflite::File& file) : file_(file) {}

  // `inputs` is as for DependenceOf.
  std::vector<Threshold> Find(const tflite::Graph& graph,
                              const std::vector<DependsOn>& inputs) {
    std::vector<Threshold> found;
    const Dependence on = DependenceOf(graph, inputs);
    for (size_t i = 0; i < graph.ops.size(); ++i) {
      if (on.ops[i] != DependsOn::kValues) continue;
      const tflite::Op& op = graph.ops[i];
      std::optional<Threshold> threshold;
      if (!IsSmooth(graph, op)) {
        threshold = Threshold{-1, At(graph, op)};
      } else if (op.body >= 0) {
        threshold = Inside(op, on);
      }
      if (!threshold) continue;
      threshold->op = static_cast<int32_t>(i);
      if (std::abs(threshold->at.value_or(0)) <
          std::numeric_limits<float>::max()) {
        found.push_back(*threshold);
      }
    }
    return found;
  }

 private:
  bool IsSmooth(const tflite::Graph& graph, const tflite::Op& op) const {
    if (op.rotates > 0) return true;
    if (op.activation != 0) return false;
    if (!std::ranges::binary_search(kSmooth, op.code)) return false;
    if (op.code != tflite::kOpCast || op.inputs.empty() || op.outputs.empty()) {
      return true;
    }
    return IsFloat(TypeOf(graph, op.outputs[0])) ||
           !IsFloat(TypeOf(graph, op.inputs[0]));
  }

  static ElementType TypeOf(const tflite::Graph& graph, int32_t tensor) {
    return tensor < 0 ? ElementType::kUnknown
                      : graph.tensors[static_cast<size_t>(tensor)].type;
  }

  // The nearest of the composite's; nothing where it holds none.
  std::optional<Threshold> Inside(const tflite::Op& op, const Dependence& on) {
    if (op.body >= std::ssize(file_.graphs)) return std::nullopt;
    // Deeper than any converter writes.
    if (depth_ == kMostDepth) return Threshold{};
    std::vector<DependsOn> inputs;
    for (const int32_t input : op.inputs) {
      inputs.push_back(input < 0 ? DependsOn::kNothing
                                 : on.tensors[static_cast<size_t>(input)]);
    }
    const auto [entry, is_new] =
        known_.try_emplace(std::pair(op.body, std::move(inputs)));
    if (is_new) {
      entry->second = Threshold{};  // where it is inside itself
      entry->second = NearestIn(entry->first);
    }
    return entry->second;
  }

  std::optional<Threshold> NearestIn(
      const std::pair<int32_t, std::vector<DependsOn>>& body) {
    ++depth_;
    const std::vector<Threshold> inside =
        Find(file_.graphs[static_cast<size_t>(body.first)], body.second);
    --depth_;
    if (inside.empty()) return std::nullopt;
    const auto nearer = [](const Threshold& a, const Threshold& b) {
      return std::abs(a.at.value_or(0)) < std::abs(b.at.value_or(0));
    };
    return std::ranges::min(inside, nearer);
  }

  // The nearest to 0 of its constants; nothing where one of them is not the
  // same number throughout.
  std::optional<double> At(const tflite::Graph& graph,
                           const tflite::Op& op) const {
    if (op.code == tflite::kOpRelu ||
        op.activation == tflite::schema::ActivationFunctionType::kRelu) {
      return 0;
    }
    std::optional<double> nearest;
    for (const int32_t input : op.inputs) {
      if (input < 0) continue;
      const int32_t index = graph.tensors[static_cast<size_t>(input)].constant;
      if (index < 0) continue;
      const tflite::Constant& constant =
          file_.constants[static_cast<size_t>(index)];
      const auto value =
          IsFloat(constant.type)
              ? Uniform(constant)
              : UniformInteger(TypeOf(graph, input), constant.data);
      if (!value) return std::nullopt;
      if (!nearest || std::abs(*value) < std::abs(*nearest)) nearest = value;
    }
    return nearest;
  }

  static std::optional<double> UniformInteger(ElementType type,
                                              std::span<const std::byte> data) {
    if (type == ElementType::kInt32) return Same<int32_t>(data);
    if (type == ElementType::kInt64) return Same<int64_t>(data);
    return {};
  }

  template <typename Integer>
  static std::optional<double> Same(std::span<const std::byte> data) {
    std::optional<Integer> value;
    for (size_t at = 0; at + sizeof(Integer) <= data.size();
         at += sizeof(Integer)) {
      Integer next = 0;
      std::memcpy(&next, data.data() + at, sizeof(next));
      if (value && *value != next) return {};
      value = next;
    }
    if (!value) return {};
    return static_cast<double>(*value);
  }

  static std::optional<double> Uniform(const tflite::Constant& constant) {
    if (!IsFloat(constant.type) || constant.elements() == 0) return {};
    const StoredReader reader(constant);
    std::vector<float> row(static_cast<size_t>(constant.cols()));
    std::optional<float> value;
    for (int64_t r = 0; r < constant.rows(); ++r) {
      reader.Read(r, row.data());
      if (!value) value = row[0];
      if (std::ranges::any_of(row, [&](float x) { return x != *value; })) {
        return {};
      }
    }
    return value;
  }

  const tflite::File& file_;
  int depth_ = 0;
  // By body and what its inputs depend on.
  std::map<std::pair<int32_t, std::vector<DependsOn>>, std::optional<Threshold>>
      known_;
};

}  // namespace

bool Threshold::is_half_range() const {
  return at.has_value() && std::abs(*at) >= kHalfMax;
}

bool IsOfActivation(const Threshold& threshold, Activation activation) {
  // xIELU's epsilon is 1e-6.
  const double most = activation == Activation::kXielu ? 1e-5 : 0;
  return (activation == Activation::kRelu2 ||
          activation == Activation::kXielu) &&
         threshold.at.has_value() && std::abs(*threshold.at) <= most;
}

bool IsOfModel(const Threshold& threshold, const ModelConfig& config) {
  // Of the mean of squares; Gemma3nTextModel.
  constexpr float kLeastSize = 1e-5f;
  if (IsOfActivation(threshold, config.activation)) return true;
  if (!threshold.at) return false;
  // Tokens beyond the table of per-layer embeddings have its first row.
  if (config.num_streams > 0 &&
      (static_cast<float>(*threshold.at) == kLeastSize ||
       *threshold.at == static_cast<double>(config.per_layer_vocab_size) ||
       *threshold.at == 0)) {
    return true;
  }
  const bool sparse = std::ranges::any_of(
      config.layers,
      [](const LayerConfig& layer) { return layer.sparsity > 0; });
  return sparse && *threshold.at == 0;
}

std::vector<Threshold> FindThresholds(const tflite::File& file,
                                      const tflite::Graph& graph,
                                      std::span<const int32_t> needed) {
  std::vector<Threshold> found =
      Finder(file).Find(graph, DependenceOfInputs(graph));
  std::erase_if(found, [&](const Threshold& threshold) {
    return !std::ranges::binary_search(needed, threshold.op);
  });
  return found;
}

}  // namespace verify_tflite
