#include "mapping/stored.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/number.h"

namespace verify_tflite {
namespace {

template <typename T>
T Load(const std::byte* data, int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}

void HalvesToFloats(const std::byte* data, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = HalfToFloat(Load<uint16_t>(data, i));
  }
}

void BFloatsToFloats(const std::byte* data, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = BFloat16ToFloat(Load<uint16_t>(data, i));
  }
}

// Both numbers of a byte, for all bytes.
const std::vector<std::array<float, 2>>& Nibbles() {
  static const auto table = [] {
    std::vector<std::array<float, 2>> values(256);
    for (int i = 0; i < 256; ++i) {
      const int low = i & 15, high = i >> 4;
      values[i] = {static_cast<float>(low < 8 ? low : low - 16),
                   static_cast<float>(high < 8 ? high : high - 16)};
    }
    return values;
  }();
  return table;
}

// The low nibble comes first.
void ReadInt4(const std::byte* data, int64_t first, int64_t count, float* out) {
  const auto* table = Nibbles().data();
  int64_t i = 0;
  if (first % 2 != 0 && count > 0) {
    out[i++] = table[Load<uint8_t>(data, first / 2)][1];
  }
  for (; i + 2 <= count; i += 2) {
    std::memcpy(out + i, &table[Load<uint8_t>(data, (first + i) / 2)],
                2 * sizeof(float));
  }
  if (i < count) out[i] = table[Load<uint8_t>(data, (first + i) / 2)][0];
}

}  // namespace

void DropPages(std::span<const std::byte> bytes) {
  static const auto kPage = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t end = (begin + bytes.size()) / kPage * kPage;
  begin = (begin + kPage - 1) / kPage * kPage;
  if (begin < end) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
}

void ToFloats(const TensorView& tensor, int64_t first, int64_t count,
              float* out) {
  const std::byte* data =
      tensor.data.data() + first * static_cast<int64_t>(SizeOf(tensor.dtype));
  switch (tensor.dtype) {
    case DType::kF32:
      std::memcpy(out, data, count * sizeof(float));
      break;
    case DType::kF16:
      HalvesToFloats(data, count, out);
      break;
    case DType::kBF16:
      BFloatsToFloats(data, count, out);
      break;
    case DType::kF64:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(Load<double>(data, i));
      }
      break;
  }
}

StoredReader::StoredReader(const tflite::Constant& constant)
    : constant_(constant),
      cols_(constant.cols()),
      quantised_(constant.block_size > 0 || !constant.scales.empty()) {
  if (constant.scales.size() <= 1) return;
  for (size_t i = constant.axis + 1; i < constant.shape.size(); ++i) {
    stride_ *= constant.shape[i];
  }
  scale_per_row_ = stride_ >= cols_ && cols_ > 0;
}

int64_t StoredReader::AxisIndex(int64_t row, int64_t col) const {
  if (constant_.scales.size() <= 1) return 0;
  const int64_t element = row * cols_ + col;
  return element / std::max<int64_t>(stride_, 1) %
         static_cast<int64_t>(constant_.scales.size());
}

float StoredReader::ScaleAt(int64_t row, int64_t col) const {
  if (constant_.block_size > 0) {
    const int64_t block = (row * cols_ + col) / constant_.block_size;
    return constant_.half_block_scales
               ? HalfToFloat(
                     Load<uint16_t>(constant_.block_scales.data(), block))
               : Load<float>(constant_.block_scales.data(), block);
  }
  return constant_.scales[AxisIndex(row, col)];
}

void StoredReader::ReadStored(int64_t row, int64_t first, int64_t count,
                              float* out) const {
  const std::byte* data = constant_.data.data();
  const int64_t begin = row * cols_ + first;
  switch (constant_.type) {
    case ElementType::kFloat32:
      std::memcpy(out, data + begin * 4, count * sizeof(float));
      break;
    case ElementType::kFloat16:
      HalvesToFloats(data + begin * 2, count, out);
      break;
    case ElementType::kBFloat16:
      BFloatsToFloats(data + begin * 2, count, out);
      break;
    case ElementType::kInt8:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(Load<int8_t>(data, begin + i));
      }
      break;
    case ElementType::kInt16:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(Load<int16_t>(data, begin + i));
      }
      break;
    case ElementType::kInt32:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(Load<int32_t>(data, begin + i));
      }
      break;
    case ElementType::kInt64:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(Load<int64_t>(data, begin + i));
      }
      break;
    case ElementType::kInt4:
      ReadInt4(data, begin, count, out);
      break;
    case ElementType::kInt2:
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = begin + i;
        const int pair = Load<uint8_t>(data, at / 4) >> (at % 4 * 2) & 3;
        out[i] = static_cast<float>(pair < 2 ? pair : pair - 4);
      }
      break;
    default:  // tflite::Constant has no others but kUnknown
      std::fill_n(out, count, std::nanf(""));
      break;
  }
}

void StoredReader::Read(int64_t row, int64_t first, int64_t count,
                        float* out) const {
  ReadStored(row, first, count, out);
  if (!quantised_) return;
  if (!constant_.zero_points.empty()) {
    for (int64_t i = 0; i < count; ++i) {
      const size_t index =
          constant_.zero_points.size() == 1 ? 0 : AxisIndex(row, first + i);
      out[i] -= static_cast<float>(constant_.zero_points[index]);
    }
  }
  if (constant_.block_size > 0) {
    for (int64_t i = 0; i < count;) {
      const float scale = ScaleAt(row, first + i);
      const int64_t left = constant_.block_size -
                           (row * cols_ + first + i) % constant_.block_size;
      const int64_t end = std::min(i + left, count);
      for (; i < end; ++i) out[i] *= scale;
    }
  } else if (scale_per_row_) {
    const float scale = ScaleAt(row, 0);
    for (int64_t i = 0; i < count; ++i) out[i] *= scale;
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] *= ScaleAt(row, first + i);
  }
}

void StoredReader::Steps(int64_t row, const float* original, float* out) const {
  if (quantised_) {
    if (constant_.block_size > 0) {
      for (int64_t i = 0; i < cols_; i += constant_.block_size) {
        const int64_t end = std::min(i + constant_.block_size, cols_);
        std::fill(out + i, out + end, ScaleAt(row, i));
      }
    } else if (scale_per_row_) {
      std::fill_n(out, cols_, ScaleAt(row, 0));
    } else {
      for (int64_t i = 0; i < cols_; ++i) out[i] = ScaleAt(row, i);
    }
    if (constant_.type != ElementType::kInt32 &&
        constant_.type != ElementType::kInt64) {
      return;
    }
    // Finer than float32 at their size.
    for (int64_t i = 0; i < cols_; ++i) {
      out[i] = std::max(out[i], std::fabs(original[i]) * 0x1p-22f);
    }
    return;
  }
  // Spacing at 1, and of the denormals.
  float unit = 0x1p-23f, least = 0x1p-149f;
  if (constant_.type == ElementType::kFloat16)
    unit = 0x1p-10f, least = 0x1p-24f;
  if (constant_.type == ElementType::kBFloat16)
    unit = 0x1p-7f, least = 0x1p-133f;
  for (int64_t i = 0; i < cols_; ++i) {
    const float power = std::bit_cast<float>(
        std::bit_cast<uint32_t>(original[i]) & 0x7f800000u);
    out[i] = std::max(power * unit, least);
  }
}

}  // namespace verify_tflite
