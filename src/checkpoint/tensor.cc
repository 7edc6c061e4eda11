#include "checkpoint/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace verify_tflite {

size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
  }
  return 0;
}

std::string_view NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kF64:
      return "F64";
  }
  return "?";
}

int64_t MatrixRows(const TensorView& tensor) {
  int64_t rows = 1;
  const size_t dims = std::max<size_t>(tensor.shape.size(), 2) - 1;
  for (size_t i = 0; i < std::min(dims, tensor.shape.size()); ++i) {
    rows *= tensor.shape[i];
  }
  return rows;
}

int64_t MatrixColumns(const TensorView& tensor) {
  return tensor.shape.size() < 2 ? 1 : tensor.shape.back();
}

std::string ShapeToString(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace verify_tflite
