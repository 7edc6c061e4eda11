// The operators and constants of a .tflite file, as far as an audit of its
// weights needs them. Nothing runs; the runtime is not needed.
//
// Schema: tflite/converter/schema/schema.fbs.
#ifndef VERIFY_TFLITE_AUDIT_GRAPH_H_
#define VERIFY_TFLITE_AUDIT_GRAPH_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/tensor_scale.h"

namespace verify_tflite {

enum class StoredType {
  kFloat32,
  kFloat16,
  kBFloat16,
  kInt8,
  kInt16,
  kInt4,   // two to a byte, the low nibble first
  kInt2,   // four to a byte, the lowest bits first
  kInt32,  // with scales: biases of integer products, as kInt64
  kInt64,
  kOther,
};

// A constant, once however many tensors of however many graphs view it alike.
// With scales of its own in one graph it is another constant there.
struct StoredConstant {
  std::string name;  // of the first tensor that views it
  StoredType type = StoredType::kOther;
  std::string type_name;       // "INT8 per channel", …
  std::vector<int64_t> shape;  // product(shape) elements fill `data`
  std::span<const std::byte> data;
  // w = scale (q - zero_point). Empty scales: not quantised. One, or one for
  // each index of `axis`.
  std::vector<float> scales;
  std::vector<int64_t> zero_points;  // empty: 0
  int64_t axis = 0;
  // Not 0: scales are instead for blocks of that many elements of a row,
  // [elements / block_size] of float16 or float32, row by row.
  int64_t block_size = 0;
  std::span<const std::byte> block_scales;
  bool half_block_scales = false;

  int64_t elements() const;  // 0: more than can be, of a type not read here
  // As a matrix: all but the last dimension, and the last; a vector, of
  // whatever rank, is [n, 1].
  int64_t rows() const;
  int64_t cols() const;
};

struct AuditedOp {
  int32_t code = 0;          // of BuiltinOperator
  std::string composite;     // name, where it is one
  int32_t body = -1;         // and the graph it stands for
  bool adjoint_y = false;    // BATCH_MATMUL's second operand is transposed
  int32_t activation = 0;    // ActivationFunctionType, fused; 0: none
  bool approximate = false;  // GELU by tanh
  // Of the custom operator aeq.hadamard_rotation, which multiplies each block
  // of so many numbers with Sylvester's matrix over the root of its size; else
  // 0. Source: tflite/kernels/hadamard_rotation.cc.
  int64_t rotates = 0;
  std::vector<int32_t> inputs;  // tensors; -1: left out
  std::vector<int32_t> outputs;
};

struct AuditedTensor {
  int32_t constant = -1;  // of AuditedFile::constants
  int32_t producer = -1;  // operator
  StoredType type = StoredType::kOther;
  // Of integers that one scale stands for. For type kInt8 or kInt16.
  std::optional<TensorScale> scale;
  std::vector<int32_t> shape;
  std::vector<int32_t> consumers;  // operators, ascending
};

using NamedTensor = std::pair<std::string, int32_t>;

struct AuditedGraph {
  std::string signature;  // empty: part of a composite, not called itself
  std::vector<AuditedTensor> tensors;
  std::vector<AuditedOp> ops;  // in the order of execution
  std::vector<int32_t> input_tensors, output_tensors;
  std::vector<NamedTensor> inputs, outputs;  // by the signature's names
};

struct AuditedFile {
  std::vector<StoredConstant> constants;
  std::vector<AuditedGraph> graphs;
};

// Views into `bytes`, which must outlive the result. Throws Error that begins
// with `what` when the file is damaged: an offset or a size that lies outside.
AuditedFile ReadAuditedFile(std::span<const std::byte> bytes,
                            const std::string& what);

// Scales of 0, which quantisers write for rows or blocks of zeros and which no
// runtime loads.
struct ZeroScales {
  std::string name;       // of the first constant that has one
  std::string type_name;  // of it
  int64_t row = 0;        // of the first in it; of one for a tensor 0
  int64_t count = 0;      // in it
  int64_t constants = 0;  // that have one; 0: none
};
ZeroScales FindZeroScales(const AuditedFile& file);
std::string Describe(const ZeroScales& scales);

// Numbers of BuiltinOperator.
inline constexpr int32_t kOpAdd = 0, kOpConcatenation = 2, kOpConv2d = 3,
                         kOpDequantize = 6, kOpEmbeddingLookup = 7,
                         kOpFullyConnected = 9, kOpLogistic = 14, kOpMul = 18,
                         kOpReshape = 22, kOpTanh = 28, kOpCustom = 32,
                         kOpGather = 36, kOpTranspose = 39, kOpMean = 40,
                         kOpSub = 41, kOpDiv = 42, kOpSqueeze = 43,
                         kOpCast = 53, kOpSlice = 65, kOpSin = 66,
                         kOpExpandDims = 70, kOpSqrt = 75, kOpRsqrt = 76,
                         kOpCos = 108, kOpQuantize = 114, kOpBatchMatmul = 126,
                         kOpBroadcastTo = 130, kOpGelu = 150,
                         kOpDynamicUpdateSlice = 151, kOpComposite = 206;

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_AUDIT_GRAPH_H_
