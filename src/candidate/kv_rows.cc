#include "candidate/kv_rows.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/number.h"

namespace verify_tflite {
namespace {

template <typename Stored, typename Widen>
std::vector<float> Gather(const KvLayout& layout,
                          std::span<const std::byte> bytes, int64_t begin,
                          int64_t end, Widen widen) {
  std::vector<float> rows;
  rows.reserve(
      static_cast<size_t>((end - begin) * layout.heads * layout.head_dim));
  for (int64_t position = begin; position < end; ++position) {
    for (int64_t head = 0; head < layout.heads; ++head) {
      const int64_t from = position % layout.slots * layout.slot_stride +
                           head * layout.head_stride;
      for (int64_t i = 0; i < layout.head_dim; ++i) {
        Stored stored;
        const auto at = static_cast<size_t>(from + i * layout.element_stride);
        std::memcpy(&stored, bytes.data() + at * sizeof(Stored),
                    sizeof(Stored));
        rows.push_back(widen(stored));
      }
    }
  }
  return rows;
}

template <typename Stored>
std::vector<float> GatherScaled(const TensorSpec& cache, const KvLayout& layout,
                                std::span<const std::byte> bytes, int64_t begin,
                                int64_t end) {
  return Gather<Stored>(layout, bytes, begin, end, [&](Stored x) {
    return cache.scale->scale * static_cast<float>(x - cache.scale->zero_point);
  });
}

}  // namespace

KvLayout LayoutOf(const std::string& path, const TensorSpec& cache,
                  size_t sequence_axis) {
  const std::vector<int64_t>& dims = cache.dims;
  if (dims.size() != 4 || dims[0] != 1 || sequence_axis == 0 ||
      sequence_axis >= dims.size()) {
    throw Error(
        "{}: {}: cannot tell heads from positions; expected four dimensions, "
        "the first 1, and positions not in the first",
        path, Describe(cache));
  }
  ByteSize(cache);  // no product below overflows
  const int64_t strides[] = {0, dims[2] * dims[3], dims[3], 1};
  const size_t heads = sequence_axis == 1 ? 2 : 1;
  const size_t elements = sequence_axis == 3 ? 2 : 3;
  return {.slots = dims[sequence_axis],
          .heads = dims[heads],
          .head_dim = dims[elements],
          .slot_stride = strides[sequence_axis],
          .head_stride = strides[heads],
          .element_stride = strides[elements]};
}

std::vector<float> ReadPositions(const std::string& path,
                                 const TensorSpec& cache,
                                 const KvLayout& layout,
                                 std::span<const std::byte> bytes,
                                 int64_t begin, int64_t end) {
  if (begin < 0 || end < begin || end - begin > layout.slots ||
      bytes.size() < static_cast<size_t>(ByteSize(cache))) {
    throw Error("{}: {}: cannot read positions {} to {} from {} bytes", path,
                Describe(cache), begin, end, bytes.size());
  }
  switch (cache.type) {
    case ElementType::kFloat32:
      return Gather<float>(layout, bytes, begin, end,
                           [](float x) { return x; });
    case ElementType::kFloat16:
      return Gather<uint16_t>(layout, bytes, begin, end, HalfToFloat);
    case ElementType::kInt8:
      if (!cache.scale) break;
      return GatherScaled<int8_t>(cache, layout, bytes, begin, end);
    case ElementType::kInt16:
      if (!cache.scale) break;
      return GatherScaled<int16_t>(cache, layout, bytes, begin, end);
    default:
      break;
  }
  throw Error(
      "{}: {}: cannot read what is stored so; expected FLOAT32, FLOAT16, or "
      "INT8 or INT16 with one scale",
      path, Describe(cache));
}

void RepeatPositions(const TensorSpec& cache, size_t sequence_axis,
                     std::span<std::byte> bytes, int64_t filled, int64_t end) {
  size_t outer = 1;
  for (size_t i = 0; i < sequence_axis; ++i) {
    outer *= static_cast<size_t>(cache.dims[i]);
  }
  const auto slots = static_cast<size_t>(cache.dims[sequence_axis]);
  const auto total = static_cast<size_t>(ByteSize(cache));
  const size_t inner = total / outer / slots;
  const size_t part = static_cast<size_t>(filled) * inner;
  const size_t whole = static_cast<size_t>(end) * inner;
  for (size_t i = 0; i < outer; ++i) {
    std::byte* begin = bytes.subspan(i * slots * inner).data();
    for (size_t at = part; at < whole; at += part) {
      std::memcpy(begin + at, begin, std::min(part, whole - at));
    }
  }
}

StateRows ReadState(const std::string& path, const TensorSpec& state,
                    std::span<const std::byte> bytes) {
  if (state.type != ElementType::kFloat32 || state.dims.size() != 3) {
    throw Error("{}: {}: expected a state of FLOAT32 [1, channels, positions]",
                path, Describe(state));
  }
  StateRows result{.rows = state.dims[2], .width = state.dims[1]};
  const auto* from = reinterpret_cast<const float*>(bytes.data());
  result.values.resize(static_cast<size_t>(result.rows * result.width));
  for (int64_t row = 0; row < result.rows; ++row) {
    for (int64_t i = 0; i < result.width; ++i) {
      result.values[static_cast<size_t>(row * result.width + i)] =
          from[i * result.rows + row];
    }
  }
  return result;
}

}  // namespace verify_tflite
