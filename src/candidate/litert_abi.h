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

LiteRtStatus LiteRtCreateEnvironment(int num_options, const LiteRtEnvOption*,
                                     LiteRtEnvironment*);
void LiteRtDestroyEnvironment(LiteRtEnvironment);

// Runs the flatbuffers verifier. The buffer must outlive the model and
// everything compiled from it.
LiteRtStatus LiteRtCreateModelFromBuffer(LiteRtEnvironment, const void* data,
                                         size_t size, LiteRtModel*);
void LiteRtDestroyModel(LiteRtModel);

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
