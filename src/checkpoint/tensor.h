// A tensor of a checkpoint: a view into a mapped file or into memory.
#ifndef VERIFY_TFLITE_CHECKPOINT_TENSOR_H_
#define VERIFY_TFLITE_CHECKPOINT_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"

namespace verify_tflite {

enum class DType { kF32, kF16, kBF16, kF64 };

size_t SizeOf(DType dtype);            // bytes per element
std::string_view NameOf(DType dtype);  // "F32", "F16", "BF16", "F64"

// `count` float32 elements of a tensor from element `first` on. Safe to call
// from several threads.
using ReadFn = std::function<void(int64_t first, int64_t count, float* out)>;

// Dense, row-major, little-endian. Not necessarily aligned to its element size:
// read it with memcpy or unaligned loads.
struct TensorView {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // product(shape) * SizeOf(dtype) bytes
  // The mapping `data` lies in; null: memory that the checkpoint owns.
  const MappedFile* file = nullptr;
  // Not null: `data` is empty, and elements (kF32) are what `read` gives from
  // element `read_first` on, worked out as they are asked for: dequantised from
  // a model file.
  const ReadFn* read = nullptr;
  int64_t read_first = 0;
};

// Rows and columns of a tensor: its last dimension, and the others together. A
// vector has one column.
int64_t MatrixRows(const TensorView& tensor);
int64_t MatrixColumns(const TensorView& tensor);

// "[2048, 64]"
std::string ShapeToString(std::span<const int64_t> shape);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_TENSOR_H_
