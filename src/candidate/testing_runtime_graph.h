// SPDX-License-Identifier: Apache-2.0
// What the runtime itself says that a .tflite holds: the oracle of what
// tflite/ reads. The getters are those of LiteRT's litert/c/litert_model.h,
// which the program has no use for.
#ifndef VERIFY_TFLITE_CANDIDATE_TESTING_RUNTIME_GRAPH_H_
#define VERIFY_TFLITE_CANDIDATE_TESTING_RUNTIME_GRAPH_H_

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/python_library.h"
#include "base/utf8.h"
#include "candidate/graph.h"
#include "candidate/runtime.h"
#include "tflite/interface.h"
#include "tflite/schema.h"

extern "C" {

using LiteRtSignature = struct LiteRtSignatureT*;
using LiteRtSubgraph = struct LiteRtSubgraphT*;
using LiteRtTensor = struct LiteRtTensorT*;
using LiteRtOp = struct LiteRtOpT*;
using LiteRtWeights = struct LiteRtWeightsT*;

enum LiteRtTensorTypeId : int {
  kLiteRtRankedTensorType = 0,
  kLiteRtUnrankedTensorType = 1,
};

struct LiteRtTensorDefiningOp {
  LiteRtOp op;
  LiteRtParamIndex op_output_index;
};
static_assert(sizeof(LiteRtTensorDefiningOp) == 16);

enum LiteRtQuantizationTypeId : int {
  kLiteRtQuantizationNone = 0,
  kLiteRtQuantizationPerTensor = 1,
  kLiteRtQuantizationPerChannel = 2,
  kLiteRtQuantizationBlockWise = 3,
};

struct LiteRtQuantizationPerTensor {
  float scale;
  int64_t zero_point;
};
static_assert(sizeof(LiteRtQuantizationPerTensor) == 16);

struct LiteRtQuantizationBlockWise {
  LiteRtTensor scales;
  LiteRtTensor zero_points;
  int32_t block_size;
};
static_assert(sizeof(LiteRtQuantizationBlockWise) == 24);
static_assert(offsetof(LiteRtQuantizationBlockWise, block_size) == 16);

LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel, LiteRtParamIndex*);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel, LiteRtParamIndex,
                                     LiteRtSignature*);
LiteRtStatus LiteRtGetNumModelSubgraphs(LiteRtModel, LiteRtParamIndex*);
LiteRtStatus LiteRtGetModelSubgraph(LiteRtModel, LiteRtParamIndex,
                                    LiteRtSubgraph*);
LiteRtStatus LiteRtGetSignatureKey(LiteRtSignature, const char**);
LiteRtStatus LiteRtGetSignatureSubgraph(LiteRtSignature, LiteRtSubgraph*);
// Inputs and outputs are enumerated in the order of the subgraph's, which is
// the order LiteRtRunCompiledModel takes them in.
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature, LiteRtParamIndex*);
LiteRtStatus LiteRtGetSignatureInputName(LiteRtSignature, LiteRtParamIndex,
                                         const char**);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature,
                                                  LiteRtParamIndex,
                                                  LiteRtTensor*);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature, LiteRtParamIndex*);
LiteRtStatus LiteRtGetSignatureOutputName(LiteRtSignature, LiteRtParamIndex,
                                          const char**);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature,
                                                   LiteRtParamIndex,
                                                   LiteRtTensor*);
LiteRtStatus LiteRtGetNumSubgraphInputs(LiteRtSubgraph, LiteRtParamIndex*);
LiteRtStatus LiteRtGetSubgraphInput(LiteRtSubgraph, LiteRtParamIndex,
                                    LiteRtTensor*);
LiteRtStatus LiteRtGetNumSubgraphOutputs(LiteRtSubgraph, LiteRtParamIndex*);
LiteRtStatus LiteRtGetSubgraphOutput(LiteRtSubgraph, LiteRtParamIndex,
                                     LiteRtTensor*);
LiteRtStatus LiteRtGetNumSubgraphOps(LiteRtSubgraph, LiteRtParamIndex*);
LiteRtStatus LiteRtGetSubgraphOp(LiteRtSubgraph, LiteRtParamIndex, LiteRtOp*);
LiteRtStatus LiteRtGetOpCode(LiteRtOp, int*);
// Name of a custom operator; an error for others.
LiteRtStatus LiteRtGetCustomCode(LiteRtOp, const char**);
LiteRtStatus LiteRtGetNumOpInputs(LiteRtOp, LiteRtParamIndex*);
LiteRtStatus LiteRtGetOpInput(LiteRtOp, LiteRtParamIndex, LiteRtTensor*);
LiteRtStatus LiteRtGetSHLOCompositeOpDecompositionSubgraphIndex(LiteRtOp,
                                                                int32_t*);
LiteRtStatus LiteRtGetTensorIndex(LiteRtTensor, uint32_t*);
LiteRtStatus LiteRtGetTensorTypeId(LiteRtTensor, LiteRtTensorTypeId*);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor, LiteRtRankedTensorType*);
LiteRtStatus LiteRtGetQuantizationTypeId(LiteRtTensor,
                                         LiteRtQuantizationTypeId*);
LiteRtStatus LiteRtGetPerTensorQuantization(LiteRtTensor,
                                            LiteRtQuantizationPerTensor*);
LiteRtStatus LiteRtGetBlockWiseQuantization(LiteRtTensor,
                                            LiteRtQuantizationBlockWise*);
LiteRtStatus LiteRtGetTensorDefiningOp(LiteRtTensor, bool* has_defining_op,
                                       LiteRtTensorDefiningOp*);
LiteRtStatus LiteRtGetTensorWeights(LiteRtTensor, LiteRtWeights*);
// Size 0 for a tensor that is no constant.
LiteRtStatus LiteRtGetWeightsBytes(LiteRtWeights, const void**, size_t*);

}  // extern "C"

namespace verify_tflite {

#define VERIFY_TFLITE_GETTERS(X)                        \
  X(LiteRtGetNumModelSignatures)                        \
  X(LiteRtGetModelSignature)                            \
  X(LiteRtGetNumModelSubgraphs)                         \
  X(LiteRtGetModelSubgraph)                             \
  X(LiteRtGetSignatureKey)                              \
  X(LiteRtGetSignatureSubgraph)                         \
  X(LiteRtGetNumSignatureInputs)                        \
  X(LiteRtGetSignatureInputName)                        \
  X(LiteRtGetSignatureInputTensorByIndex)               \
  X(LiteRtGetNumSignatureOutputs)                       \
  X(LiteRtGetSignatureOutputName)                       \
  X(LiteRtGetSignatureOutputTensorByIndex)              \
  X(LiteRtGetNumSubgraphInputs)                         \
  X(LiteRtGetSubgraphInput)                             \
  X(LiteRtGetNumSubgraphOutputs)                        \
  X(LiteRtGetSubgraphOutput)                            \
  X(LiteRtGetNumSubgraphOps)                            \
  X(LiteRtGetSubgraphOp)                                \
  X(LiteRtGetOpCode)                                    \
  X(LiteRtGetCustomCode)                                \
  X(LiteRtGetNumOpInputs)                               \
  X(LiteRtGetOpInput)                                   \
  X(LiteRtGetSHLOCompositeOpDecompositionSubgraphIndex) \
  X(LiteRtGetTensorIndex)                               \
  X(LiteRtGetTensorTypeId)                              \
  X(LiteRtGetRankedTensorType)                          \
  X(LiteRtGetQuantizationTypeId)                        \
  X(LiteRtGetPerTensorQuantization)                     \
  X(LiteRtGetBlockWiseQuantization)                     \
  X(LiteRtGetTensorDefiningOp)                          \
  X(LiteRtGetTensorWeights)                             \
  X(LiteRtGetWeightsBytes)

struct Getters {
  static const Getters& Get() {
    static const Getters getters;
    return getters;
  }
#define VERIFY_TFLITE_MEMBER(name) decltype(&::name) name = nullptr;
  VERIFY_TFLITE_GETTERS(VERIFY_TFLITE_MEMBER)
#undef VERIFY_TFLITE_MEMBER

 private:
  Getters() {
    const SharedLibrary library(
        FindPythonLibrary({.package_dir = "ai_edge_litert",
                           .file_name = "libLiteRt.so",
                           .env_variable = "VERIFY_TFLITE_LITERT",
                           .requirement = "ai-edge-litert"}));
#define VERIFY_TFLITE_LOAD(name) name = library.Symbol<decltype(::name)>(#name);
    VERIFY_TFLITE_GETTERS(VERIFY_TFLITE_LOAD)
#undef VERIFY_TFLITE_LOAD
  }
};

// Decompositions of composites within composites; none known is deeper than 2.
inline constexpr int kMaxDepth = 8;

class RuntimeGraphReader {
 public:
  RuntimeGraphReader(const std::string& path, LiteRtModel model)
      : what_(path + ": cannot read the model"), model_(model) {}

  std::vector<SignatureSpec> Signatures() const {
    std::vector<SignatureSpec> signatures;
    const size_t count = Get(lib_.LiteRtGetNumModelSignatures, model_);
    for (size_t i = 0; i < count; ++i) {
      signatures.push_back(ReadSignature(i));
    }
    return signatures;
  }

  std::vector<WeightGroup> WeightGroups() const {
    std::unordered_map<const void*, WeightGroup> constants;
    const size_t subgraphs = Get(lib_.LiteRtGetNumModelSubgraphs, model_);
    for (size_t i = 0; i < subgraphs; ++i) {
      const auto graph = Get(lib_.LiteRtGetModelSubgraph, model_, i);
      const size_t ops = Get(lib_.LiteRtGetNumSubgraphOps, graph);
      for (size_t j = 0; j < ops; ++j) {
        AddConstants(Get(lib_.LiteRtGetSubgraphOp, graph, j), constants);
      }
    }
    std::vector<WeightGroup> each;
    for (const auto& [address, constant] : constants) each.push_back(constant);
    return SumOfKinds(each);
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
    spec.custom_ops = CustomOps(graph);
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
    spec.type = FromAbi(type.element_type);
    spec.index = Get(lib_.LiteRtGetTensorIndex, tensor);
    spec.dims.assign(type.layout.dimensions,
                     type.layout.dimensions + type.layout.rank);
    if (Get(lib_.LiteRtGetQuantizationTypeId, tensor) ==
        kLiteRtQuantizationPerTensor) {
      const auto q = Get(lib_.LiteRtGetPerTensorQuantization, tensor);
      spec.scale = {.scale = q.scale, .zero_point = q.zero_point};
    }
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
    if (code == tflite::kOpDynamicUpdateSlice) {
      return DifferingAxis(made_by.op);
    }
    if ((code == tflite::kOpCast || code == tflite::kOpQuantize ||
         code == tflite::kOpDequantize) &&
        Get(lib_.LiteRtGetNumOpInputs, made_by.op) == 1) {
      // A cache that is stored in another type than it is computed in.
      return SequenceAxis(
          Get(lib_.LiteRtGetOpInput, made_by.op, LiteRtParamIndex{0}),
          depth - 1);
    }
    if (code != tflite::kOpStablehloComposite) return std::nullopt;
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

  std::vector<std::string> CustomOps(LiteRtSubgraph graph) const {
    std::vector<std::string> names;
    const size_t ops = Get(lib_.LiteRtGetNumSubgraphOps, graph);
    for (size_t i = 0; i < ops; ++i) {
      const auto op = Get(lib_.LiteRtGetSubgraphOp, graph, i);
      if (Get(lib_.LiteRtGetOpCode, op) != tflite::kOpCustom) continue;
      const std::string name = Get(lib_.LiteRtGetCustomCode, op);
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(name);
      }
    }
    return names;
  }

  // By address: a buffer that several subgraphs share counts once.
  void AddConstants(
      LiteRtOp op,
      std::unordered_map<const void*, WeightGroup>& constants) const {
    const size_t inputs = Get(lib_.LiteRtGetNumOpInputs, op);
    for (size_t i = 0; i < inputs; ++i) {
      const LiteRtTensor tensor = Get(lib_.LiteRtGetOpInput, op, i);
      if (tensor == nullptr) continue;  // an optional input left out
      const auto weights = Get(lib_.LiteRtGetTensorWeights, tensor);
      const void* data = nullptr;
      size_t size = 0;
      Call(what_, lib_.LiteRtGetWeightsBytes, weights, &data, &size);
      if (size == 0 ||
          Get(lib_.LiteRtGetTensorTypeId, tensor) != kLiteRtRankedTensorType) {
        continue;
      }
      const auto [entry, is_new] = constants.try_emplace(data);
      // A tied embedding is read by a lookup and by a product, which says more.
      using Use = WeightGroup::Use;
      if (is_new || entry->second.use == Use::kLookup ||
          entry->second.use == Use::kTable) {
        entry->second = ReadConstant(op, tensor, static_cast<int64_t>(size));
      }
    }
  }

  WeightGroup ReadConstant(LiteRtOp op, LiteRtTensor tensor,
                           int64_t size) const {
    const ElementType type =
        FromAbi(Get(lib_.LiteRtGetRankedTensorType, tensor).element_type);
    const int bits = BitsOf(type);
    WeightGroup constant{.type = std::string(NameOf(type))};
    constant.bytes = size;
    if (bits > 0) constant.elements = 8 * size / bits;
    constant.scales = ReadScales(tensor, constant.block_size);
    constant.use = ReadUse(op, constant.scales);
    return constant;
  }

  WeightGroup::Scales ReadScales(LiteRtTensor tensor,
                                 int64_t& block_size) const {
    using Scales = WeightGroup::Scales;
    switch (Get(lib_.LiteRtGetQuantizationTypeId, tensor)) {
      case kLiteRtQuantizationPerTensor:
        return Scales::kPerTensor;
      case kLiteRtQuantizationPerChannel:
        return Scales::kPerChannel;
      case kLiteRtQuantizationBlockWise:
        block_size =
            Get(lib_.LiteRtGetBlockWiseQuantization, tensor).block_size;
        return Scales::kPerBlock;
      default:
        return Scales::kNone;
    }
  }

  WeightGroup::Use ReadUse(LiteRtOp op, WeightGroup::Scales scales) const {
    using Use = WeightGroup::Use;
    switch (Get(lib_.LiteRtGetOpCode, op)) {
      case tflite::kOpDequantize:
        return Use::kDequantized;
      case tflite::kOpEmbeddingLookup:
        return Use::kLookup;
      case tflite::kOpFullyConnected:
      case tflite::kOpBatchMatmul:
        return scales == WeightGroup::Scales::kNone ? Use::kPlain
                                                    : ProductUse(op);
      default:
        return Use::kTable;
    }
  }

  // By the type of the activations, the operator's first input.
  WeightGroup::Use ProductUse(LiteRtOp op) const {
    using Use = WeightGroup::Use;
    const auto activations =
        Get(lib_.LiteRtGetOpInput, op, LiteRtParamIndex{0});
    if (activations == nullptr || Get(lib_.LiteRtGetTensorTypeId,
                                      activations) != kLiteRtRankedTensorType) {
      return Use::kTable;
    }
    switch (Get(lib_.LiteRtGetRankedTensorType, activations).element_type) {
      case kLiteRtElementTypeFloat32:
        return Use::kDynamic;
      case kLiteRtElementTypeInt16:
        return Use::kStatic16;
      default:
        return Use::kStatic;
    }
  }

  const Getters& lib_ = Getters::Get();
  std::string what_;
  LiteRtModel model_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_TESTING_RUNTIME_GRAPH_H_
