#include "candidate/graph.h"

#include <array>
#include <optional>
#include <unordered_set>

#include "base/error.h"
#include "base/utf8.h"
#include "candidate/runtime.h"

namespace verify_tflite {
namespace {

// Decompositions of composites within composites; none known is deeper than 2.
constexpr int kMaxDepth = 8;
// A type with less than this share of the weights does not name the recipe. An
// embedding alone, the least a recipe quantises, is 3 % of a 7B model.
constexpr double kRelevantShare = 0.02;

class GraphReader {
 public:
  GraphReader(const std::string& path, LiteRtModel model)
      : what_(path + ": cannot read the model"), model_(model) {}

  std::vector<SignatureSpec> Signatures() const {
    std::vector<SignatureSpec> signatures;
    const size_t count = Get(lib_.LiteRtGetNumModelSignatures, model_);
    for (size_t i = 0; i < count; ++i) {
      signatures.push_back(ReadSignature(i));
    }
    return signatures;
  }

  std::map<LiteRtElementType, int64_t> WeightBytes() const {
    std::map<LiteRtElementType, int64_t> bytes;
    std::unordered_set<const void*> seen;
    const size_t subgraphs = Get(lib_.LiteRtGetNumModelSubgraphs, model_);
    for (size_t i = 0; i < subgraphs; ++i) {
      const auto graph = Get(lib_.LiteRtGetModelSubgraph, model_, i);
      const size_t ops = Get(lib_.LiteRtGetNumSubgraphOps, graph);
      for (size_t j = 0; j < ops; ++j) {
        AddWeights(Get(lib_.LiteRtGetSubgraphOp, graph, j), seen, bytes);
      }
    }
    return bytes;
  }

 private:
  // The value that a getter of the runtime writes through its last parameter.
  template <typename Object, typename Value>
  Value Get(LiteRtStatus (*getter)(Object, Value*), Object object) const {
    Value value = {};
    Call(what_, getter, object, &value);
    return value;
  }
  template <typename Object, typename Value>
  Value Get(LiteRtStatus (*getter)(Object, LiteRtParamIndex, Value*),
            Object object, LiteRtParamIndex index) const {
    Value value = {};
    Call(what_, getter, object, index, &value);
    return value;
  }

  SignatureSpec ReadSignature(size_t index) const {
    const auto signature = Get(lib_.LiteRtGetModelSignature, model_, index);
    const auto graph = Get(lib_.LiteRtGetSignatureSubgraph, signature);
    SignatureSpec spec;
    spec.name = Get(lib_.LiteRtGetSignatureKey, signature);
    spec.index = index;
    const size_t inputs = Get(lib_.LiteRtGetNumSignatureInputs, signature);
    CheckCount(spec.name, "inputs", inputs,
               Get(lib_.LiteRtGetNumSubgraphInputs, graph));
    for (size_t i = 0; i < inputs; ++i) {
      const auto tensor =
          Get(lib_.LiteRtGetSignatureInputTensorByIndex, signature, i);
      // Any other tensor makes LiteRtRunCompiledModel throw.
      CheckSame(spec.name, tensor, Get(lib_.LiteRtGetSubgraphInput, graph, i));
      spec.inputs.push_back(ReadTensor(
          tensor, Get(lib_.LiteRtGetSignatureInputName, signature, i)));
    }
    const size_t outputs = Get(lib_.LiteRtGetNumSignatureOutputs, signature);
    CheckCount(spec.name, "outputs", outputs,
               Get(lib_.LiteRtGetNumSubgraphOutputs, graph));
    for (size_t i = 0; i < outputs; ++i) {
      const auto tensor =
          Get(lib_.LiteRtGetSignatureOutputTensorByIndex, signature, i);
      CheckSame(spec.name, tensor, Get(lib_.LiteRtGetSubgraphOutput, graph, i));
      spec.outputs.push_back(ReadTensor(
          tensor, Get(lib_.LiteRtGetSignatureOutputName, signature, i)));
      spec.outputs.back().sequence_axis = SequenceAxis(tensor, kMaxDepth);
    }
    return spec;
  }

  void CheckCount(const std::string& name, const char* direction,
                  size_t signature, size_t graph) const {
    if (signature == graph) return;
    throw Error("{}: signature {} names {} {}, its graph has {}", what_,
                Quote(name), signature, direction, graph);
  }

  void CheckSame(const std::string& name, LiteRtTensor signature,
                 LiteRtTensor graph) const {
    if (Get(lib_.LiteRtGetTensorIndex, signature) ==
        Get(lib_.LiteRtGetTensorIndex, graph)) {
      return;
    }
    throw Error(
        "{}: signature {} names tensors that are no inputs or outputs "
        "of its graph",
        what_, Quote(name));
  }

  TensorSpec ReadTensor(LiteRtTensor tensor, const char* name) const {
    TensorSpec spec;
    spec.name = name;
    if (Get(lib_.LiteRtGetTensorTypeId, tensor) != kLiteRtRankedTensorType) {
      throw Error("{}: tensor {} has no fixed rank", what_, Quote(name));
    }
    const auto type = Get(lib_.LiteRtGetRankedTensorType, tensor);
    if (type.layout.rank > kLiteRtMaxRank) {
      throw Error("{}: tensor {} has {} dimensions, expected at most {}", what_,
                  Quote(name), static_cast<unsigned>(type.layout.rank),
                  kLiteRtMaxRank);
    }
    spec.type = type.element_type;
    spec.dims.assign(type.layout.dimensions,
                     type.layout.dimensions + type.layout.rank);
    return spec;
  }

  // The axis in which what is written is shorter than the cache, where a
  // DYNAMIC_UPDATE_SLICE makes `tensor`: layouts differ between converters and
  // their options ([1,S,KV,D], [1,KV,S,D], [1,KV,D,S]), and no name tells.
  std::optional<size_t> SequenceAxis(LiteRtTensor tensor, int depth) const {
    bool has_op = false;
    LiteRtTensorDefiningOp made_by = {};
    Call(what_, lib_.LiteRtGetTensorDefiningOp, tensor, &has_op, &made_by);
    if (!has_op || depth == 0) return std::nullopt;
    const int code = Get(lib_.LiteRtGetOpCode, made_by.op);
    if (code == kLiteRtOpCodeTflDynamicUpdateSlice) {
      return DifferingAxis(made_by.op);
    }
    if (code != kLiteRtOpCodeShloComposite) return std::nullopt;
    const int32_t body = Get(
        lib_.LiteRtGetSHLOCompositeOpDecompositionSubgraphIndex, made_by.op);
    if (body < 0 || static_cast<size_t>(body) >=
                        Get(lib_.LiteRtGetNumModelSubgraphs, model_)) {
      return std::nullopt;
    }
    const auto graph = Get(lib_.LiteRtGetModelSubgraph, model_,
                           static_cast<LiteRtParamIndex>(body));
    if (made_by.op_output_index >=
        Get(lib_.LiteRtGetNumSubgraphOutputs, graph)) {
      return std::nullopt;
    }
    return SequenceAxis(
        Get(lib_.LiteRtGetSubgraphOutput, graph, made_by.op_output_index),
        depth - 1);
  }

  std::optional<size_t> DifferingAxis(LiteRtOp update_slice) const {
    if (Get(lib_.LiteRtGetNumOpInputs, update_slice) < 2) return std::nullopt;
    const TensorSpec operand = ReadTensor(
        Get(lib_.LiteRtGetOpInput, update_slice, LiteRtParamIndex{0}), "");
    const TensorSpec update = ReadTensor(
        Get(lib_.LiteRtGetOpInput, update_slice, LiteRtParamIndex{1}), "");
    if (operand.dims.size() != update.dims.size()) return std::nullopt;
    std::optional<size_t> axis;
    for (size_t i = 0; i < operand.dims.size(); ++i) {
      if (operand.dims[i] == update.dims[i]) continue;
      if (axis) return std::nullopt;
      axis = i;
    }
    return axis;
  }

  void AddWeights(LiteRtOp op, std::unordered_set<const void*>& seen,
                  std::map<LiteRtElementType, int64_t>& bytes) const {
    const size_t inputs = Get(lib_.LiteRtGetNumOpInputs, op);
    for (size_t i = 0; i < inputs; ++i) {
      const LiteRtTensor tensor = Get(lib_.LiteRtGetOpInput, op, i);
      if (tensor == nullptr) continue;  // an optional input left out
      const auto weights = Get(lib_.LiteRtGetTensorWeights, tensor);
      const void* data = nullptr;
      size_t size = 0;
      Call(what_, lib_.LiteRtGetWeightsBytes, weights, &data, &size);
      if (size == 0 || !seen.insert(data).second) continue;
      if (Get(lib_.LiteRtGetTensorTypeId, tensor) != kLiteRtRankedTensorType) {
        continue;
      }
      const auto type = Get(lib_.LiteRtGetRankedTensorType, tensor);
      bytes[type.element_type] += static_cast<int64_t>(size);
    }
  }

  const Runtime& lib_ = Runtime::Get();
  std::string what_;
  LiteRtModel model_;
};

}  // namespace

std::vector<SignatureSpec> ReadSignatures(const std::string& path,
                                          LiteRtModel model) {
  return GraphReader(path, model).Signatures();
}

std::map<LiteRtElementType, int64_t> ReadWeightBytes(const std::string& path,
                                                     LiteRtModel model) {
  return GraphReader(path, model).WeightBytes();
}

Recipe RecipeOf(const std::map<LiteRtElementType, int64_t>& weight_bytes) {
  std::map<Recipe, double> elements;
  double total = 0;
  for (const auto& [type, bytes] : weight_bytes) {
    const int bits = ElementBits(type);
    if (bits == 0) continue;
    const double count = 8.0 * static_cast<double>(bytes) / bits;
    total += count;
    switch (type) {
      case kLiteRtElementTypeInt2:
      case kLiteRtElementTypeInt4:
      case kLiteRtElementTypeUInt4:
        elements[Recipe::kInt4] += count;
        break;
      case kLiteRtElementTypeInt8:
      case kLiteRtElementTypeUInt8:
        elements[Recipe::kInt8] += count;
        break;
      case kLiteRtElementTypeFloat16:
      case kLiteRtElementTypeBFloat16:
        elements[Recipe::kFloat16] += count;
        break;
      default:
        break;
    }
  }
  for (const Recipe recipe : {Recipe::kInt4, Recipe::kInt8, Recipe::kFloat16}) {
    if (elements[recipe] > kRelevantShare * total) return recipe;
  }
  return Recipe::kFloat32;
}

}  // namespace verify_tflite
