// A tensor of a checkpoint: a view into a mapped file.
#ifndef VERIFY_TFLITE_CHECKPOINT_TENSOR_H_
#define VERIFY_TFLITE_CHECKPOINT_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"

namespace verify_tflite {

enum class DType { kF32, kF16, kBF16 };

size_t SizeOf(DType dtype);            // bytes per element
std::string_view NameOf(DType dtype);  // "F32", "F16", "BF16"

// Dense, row-major, little-endian. Not necessarily aligned to its element size:
// read it with memcpy or unaligned loads.
struct TensorView {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;   // product(shape) * SizeOf(dtype) bytes
  const MappedFile* file = nullptr;  // the mapping `data` lies in
};

// "[2048, 64]"
std::string ShapeToString(std::span<const int64_t> shape);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_TENSOR_H_
