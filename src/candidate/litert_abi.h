// The part of LiteRT's C ABI that this project calls.
//
// The ai-edge-litert wheel ships libLiteRt.so without headers. These are the
// facts of the ABI of version 2.3.0 on x86_64, each declaration exercised
// against that library; names and numbers as in LiteRT's litert/c/ and
// tflite/builtin_ops.h.
#ifndef VERIFY_TFLITE_CANDIDATE_LITERT_ABI_H_
#define VERIFY_TFLITE_CANDIDATE_LITERT_ABI_H_

#include <cstddef>
#include <cstdint>

extern "C" {

using LiteRtEnvironment = struct LiteRtEnvironmentT*;
using LiteRtModel = struct LiteRtModelT*;
using LiteRtSignature = struct LiteRtSignatureT*;
using LiteRtSubgraph = struct LiteRtSubgraphT*;
using LiteRtTensor = struct LiteRtTensorT*;
using LiteRtOp = struct LiteRtOpT*;
using LiteRtWeights = struct LiteRtWeightsT*;
using LiteRtOptions = struct LiteRtOptionsT*;
using LiteRtOpaqueOptions = struct LiteRtOpaqueOptionsT*;
using LiteRtCompiledModel = struct LiteRtCompiledModelT*;
using LiteRtTensorBuffer = struct LiteRtTensorBufferT*;

using LiteRtParamIndex = size_t;
using LiteRtHwAcceleratorSet = int;

enum LiteRtStatus : int {
  kLiteRtStatusOk = 0,
  kLiteRtStatusErrorUnknown = 9,
};

enum LiteRtElementType : int {
  kLiteRtElementTypeNone = 0,
  kLiteRtElementTypeFloat32 = 1,
  kLiteRtElementTypeInt32 = 2,
  kLiteRtElementTypeUInt8 = 3,
  kLiteRtElementTypeInt64 = 4,
  kLiteRtElementTypeBool = 6,
  kLiteRtElementTypeInt16 = 7,
  kLiteRtElementTypeInt8 = 9,
  kLiteRtElementTypeFloat16 = 10,
  kLiteRtElementTypeFloat64 = 11,
  kLiteRtElementTypeUInt64 = 13,
  kLiteRtElementTypeUInt32 = 16,
  kLiteRtElementTypeUInt16 = 17,
  kLiteRtElementTypeInt4 = 18,
  kLiteRtElementTypeBFloat16 = 19,
  kLiteRtElementTypeInt2 = 20,
  kLiteRtElementTypeUInt4 = 21,
};

enum LiteRtTensorTypeId : int {
  kLiteRtRankedTensorType = 0,
  kLiteRtUnrankedTensorType = 1,
};

constexpr int kLiteRtMaxRank = 8;

struct LiteRtLayout {
  unsigned rank : 7;
  unsigned has_strides : 1;
  int32_t dimensions[kLiteRtMaxRank];
  uint32_t strides[kLiteRtMaxRank];
};
static_assert(sizeof(LiteRtLayout) == 68);
static_assert(offsetof(LiteRtLayout, dimensions) == 4);
static_assert(offsetof(LiteRtLayout, strides) == 36);

struct LiteRtRankedTensorType {
  LiteRtElementType element_type;
  LiteRtLayout layout;
};
static_assert(sizeof(LiteRtRankedTensorType) == 72);

struct LiteRtTensorDefiningOp {
  LiteRtOp op;
  LiteRtParamIndex op_output_index;
};
static_assert(sizeof(LiteRtTensorDefiningOp) == 16);

enum LiteRtAnyType : int { kLiteRtAnyTypeInt = 2 };

struct LiteRtAny {
  LiteRtAnyType type;
  union {
    bool bool_value;
    int64_t int_value;
    double real_value;
    const char* str_value;
    const void* ptr_value;
  };
};
static_assert(sizeof(LiteRtAny) == 16);

enum LiteRtEnvOptionTag : int {
  kLiteRtEnvOptionTagAutoRegisterAccelerators = 24,
  kLiteRtEnvOptionTagMinLoggerSeverity = 25,
};

struct LiteRtEnvOption {
  LiteRtEnvOptionTag tag;
  LiteRtAny value;
};
static_assert(sizeof(LiteRtEnvOption) == 24);
static_assert(offsetof(LiteRtEnvOption, value) == 8);

constexpr LiteRtHwAcceleratorSet kLiteRtHwAcceleratorCpu = 1;
constexpr int kLiteRtLogSeverityError = 3;
constexpr int kLiteRtLogSeveritySilent = 4;

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

// Operator codes are TFLite's BuiltinOperator numbers.
constexpr int kLiteRtOpCodeTflDequantize = 6;
constexpr int kLiteRtOpCodeTflEmbeddingLookup = 7;
constexpr int kLiteRtOpCodeTflFullyConnected = 9;
constexpr int kLiteRtOpCodeTflCustom = 32;
constexpr int kLiteRtOpCodeTflCast = 53;
constexpr int kLiteRtOpCodeTflQuantize = 114;
constexpr int kLiteRtOpCodeTflBatchMatmul = 126;
constexpr int kLiteRtOpCodeTflDynamicUpdateSlice = 151;
constexpr int kLiteRtOpCodeShloComposite = 206;

LiteRtStatus LiteRtCreateEnvironment(int num_options, const LiteRtEnvOption*,
                                     LiteRtEnvironment*);
void LiteRtDestroyEnvironment(LiteRtEnvironment);

// Runs the flatbuffers verifier. The buffer must outlive the model and
// everything compiled from it.
LiteRtStatus LiteRtCreateModelFromBuffer(LiteRtEnvironment, const void* data,
                                         size_t size, LiteRtModel*);
void LiteRtDestroyModel(LiteRtModel);
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

LiteRtStatus LiteRtCreateOptions(LiteRtOptions*);
void LiteRtDestroyOptions(LiteRtOptions);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions,
                                                  LiteRtHwAcceleratorSet);
LiteRtStatus LiteRtCreateOpaqueOptions(const char* identifier, void* payload,
                                       void (*free_payload)(void*),
                                       LiteRtOpaqueOptions*);
// Takes ownership of the opaque options.
LiteRtStatus LiteRtAddOpaqueOptions(LiteRtOptions, LiteRtOpaqueOptions);

LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel,
                                       LiteRtOptions, LiteRtCompiledModel*);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel);
// `update_allocation`: computes the shapes first, instead of telling those that
// the file declares.
LiteRtStatus LiteRtGetCompiledModelOutputTensorLayouts(
    LiteRtCompiledModel, LiteRtParamIndex signature, size_t num_layouts,
    LiteRtLayout*, bool update_allocation);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel,
                                    LiteRtParamIndex signature,
                                    size_t num_inputs, LiteRtTensorBuffer*,
                                    size_t num_outputs, LiteRtTensorBuffer*);
// Only with error_reporter_mode = 2; the text is released with free().
LiteRtStatus LiteRtCompiledModelGetErrorMessages(LiteRtCompiledModel, char**);
LiteRtStatus LiteRtCompiledModelClearErrors(LiteRtCompiledModel);

// `data` must be aligned to 64 bytes.
LiteRtStatus LiteRtCreateTensorBufferFromHostMemory(
    const LiteRtRankedTensorType*, void* data, size_t size,
    void (*deallocate)(void*), LiteRtTensorBuffer*);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer);

}  // extern "C"

#endif  // VERIFY_TFLITE_CANDIDATE_LITERT_ABI_H_
