// SPDX-License-Identifier: Apache-2.0
// A .tflite file, parsed once: its graphs, signatures, constants and metadata
// as plain values over the mapped bytes. The runtime is not needed; files that
// it would not load are read, too.
#ifndef VERIFY_TFLITE_TFLITE_FILE_H_
#define VERIFY_TFLITE_TFLITE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/flatbuffer.h"
#include "base/number.h"
#include "base/tensor_scale.h"
#include "tflite/constant.h"
#include "tflite/schema.h"

namespace verify_tflite::tflite {

// How a tensor is quantised, as the file declares it; not checked.
struct Quantization {
  int details = schema::QuantizationDetails::kNone;
  FlatScalars<float> scales;
  FlatScalars<int64_t> zero_points;
  int32_t axis = 0;
  // Of kBlockwiseQuantization. Tensors of the same graph; of zero points 0 is
  // none.
  int32_t block_scales = -1;
  int32_t block_zero_points = 0;
  int32_t block_size = 0;
};

struct Tensor {
  std::string name;
  ElementType type = ElementType::kUnknown;
  std::vector<int32_t> shape;
  // The same with -1 for dimensions of any size; empty where there are none.
  std::vector<int32_t> any_shape;
  bool has_rank = true;
  std::optional<Quantization> quantization;
  // Of INT8 and INT16 that one scale stands for.
  std::optional<TensorScale> scale;
  uint32_t buffer = 0;              // two tensors may share one
  std::span<const std::byte> data;  // of a constant
  int32_t constant = -1;            // of File::constants
  int32_t producer = -1;            // operator
  std::vector<int32_t> consumers;   // operators, ascending
};

// Returns the scale of a tensor that is quantised with one, of whatever type.
std::optional<TensorScale> ScaleOf(const Tensor& tensor);

struct Op {
  int32_t code = 0;          // kOpAdd, … of schema.h
  std::string custom;        // name of a custom operator
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

// Returns "FULLY_CONNECTED", …; "CUSTOM name" for a custom operator, and the
// number for one that the schema lacks.
std::string NameOf(const Op& op);
// Returns the same, but of a composite its name: "odml.rms_norm".
std::string KindOf(const Op& op);

using NamedTensor = std::pair<std::string, int32_t>;

struct Graph {
  std::string signature;  // empty: part of a composite, not called itself
  std::vector<Tensor> tensors;
  std::vector<Op> ops;  // in the order of execution
  std::vector<int32_t> input_tensors, output_tensors;
  std::vector<NamedTensor> inputs, outputs;  // by the signature's names
};

// Several may run one graph, whose names are then those of the last.
struct Signature {
  std::string name;
  int32_t graph = 0;
  std::vector<NamedTensor> inputs, outputs;
};

struct File {
  // Parses `bytes`, which must outlive the result. Throws Error that begins
  // with `what` when the file is damaged: an offset, a size or a number lies
  // outside.
  static File Read(std::span<const std::byte> bytes, const std::string& what);

  std::span<const std::byte> bytes;
  std::string what;  // names the file in messages
  uint32_t version = 0;
  std::string description;
  std::vector<std::pair<std::string, int64_t>> metadata;  // name, bytes
  // The oldest runtime that it says runs it, "2.17.0"; empty: it does not say.
  std::string min_runtime_version;
  std::vector<Graph> graphs;
  std::vector<Signature> signatures;
  // The graphs' constants; none where `damaged_constant` is not empty.
  std::vector<Constant> constants;
  std::string damaged_constant;

  // Throws Error where a constant's size or scales do not fit its shape: what
  // no runtime loads, but what can be listed.
  void CheckConstants() const;
};

// Returns whether `bytes` begin as a .tflite does.
bool IsTflite(std::span<const std::byte> bytes);

}  // namespace verify_tflite::tflite

#endif  // VERIFY_TFLITE_TFLITE_FILE_H_
