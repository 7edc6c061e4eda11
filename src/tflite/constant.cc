// SPDX-License-Identifier: Apache-2.0
#include "tflite/constant.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "tflite/file.h"

namespace verify_tflite::tflite {
namespace {

constexpr size_t kMaxName = 256;

bool IsRead(ElementType type, bool has_scales) {
  switch (type) {
    case ElementType::kFloat32:
    case ElementType::kFloat16:
    case ElementType::kBFloat16:
    case ElementType::kInt16:
    case ElementType::kInt8:
    case ElementType::kInt4:
    case ElementType::kInt2:
      return true;
    case ElementType::kInt32:
    case ElementType::kInt64:
      return has_scales;
    default:
      return false;
  }
}

// To compare by: NaNs have no order.
std::string Bits(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(float)};
}

class ConstantReader {
 public:
  explicit ConstantReader(File& file)
      : file_(file), entries_left_(file.bytes.size() / sizeof(int32_t)) {}

  void Read() {
    for (Graph& graph : file_.graphs) {
      for (Tensor& tensor : graph.tensors) {
        if (!tensor.data.empty()) tensor.constant = Add(graph, tensor);
      }
    }
  }

 private:
  [[noreturn]] void Damaged(const std::string& reason) const {
    throw Error("{} is damaged or incomplete: {}", file_.what, reason);
  }

  int32_t Add(const Graph& graph, const Tensor& tensor) {
    Constant constant = Make(graph, tensor);
    const auto key = std::make_tuple(
        constant.data.data(), constant.data.size(), constant.type,
        constant.shape, Bits(constant.scales), constant.zero_points,
        constant.axis, constant.block_scales.data());
    const auto [entry, is_new] =
        known_.try_emplace(key, static_cast<int32_t>(file_.constants.size()));
    if (is_new) file_.constants.push_back(std::move(constant));
    return entry->second;
  }

  Constant Make(const Graph& graph, const Tensor& tensor) {
    Constant constant;
    constant.name = tensor.name.substr(0, kMaxName);
    constant.data = tensor.data;
    constant.shape.assign(tensor.shape.begin(), tensor.shape.end());
    constant.type_name = "other";
    const auto& q = tensor.quantization;
    if (!IsRead(tensor.type, q && q->scales.size() > 0)) return constant;
    constant.type = tensor.type;
    constant.type_name = NameOf(tensor.type);
    CheckSize(constant);
    if (!q) return constant;
    if (q->details == schema::QuantizationDetails::kBlockwiseQuantization) {
      ReadBlocks(graph, *q, constant);
    } else if (q->details != schema::QuantizationDetails::kNone) {
      constant.type = ElementType::kUnknown;
      constant.type_name += " of an unknown quantisation";
    } else {
      ReadScales(*q, constant);
    }
    return constant;
  }

  void CheckSize(const Constant& constant) const {
    const auto bits = static_cast<uint64_t>(BitsOf(constant.type));
    uint64_t elements = 1;
    const uint64_t limit = uint64_t{8} * constant.data.size() / bits;
    for (const int64_t size : constant.shape) {
      if (size < 0 || (size > 0 && elements > limit / size)) {
        elements = limit + 1;
        break;
      }
      elements *= size;
    }
    if (elements > limit || (elements * bits + 7) / 8 != constant.data.size()) {
      Damaged(fmt::format("a constant of shape {} has {} bytes",
                          fmt::join(constant.shape, "x"),
                          constant.data.size()));
    }
  }

  // Vectors may be shared in a damaged file: in all, no more is copied than
  // there is room for.
  template <typename T>
  std::vector<T> ToVector(const FlatScalars<T>& values) {
    if (values.size() > entries_left_) Damaged("vectors are shared");
    entries_left_ -= values.size();
    std::vector<T> result(values.size());
    for (size_t i = 0; i < result.size(); ++i) result[i] = values[i];
    return result;
  }

  void ReadScales(const Quantization& q, Constant& constant) {
    constant.scales = ToVector(q.scales);
    constant.zero_points = ToVector(q.zero_points);
    constant.axis = q.axis;
    const auto& zeros = constant.zero_points;
    if (std::all_of(zeros.begin(), zeros.end(),
                    [](int64_t zero) { return zero == 0; })) {
      constant.zero_points.clear();
    }
    CheckScales(constant);
    if (!constant.scales.empty()) {
      constant.type_name +=
          constant.scales.size() == 1 ? " per tensor" : " per channel";
    }
  }

  void CheckScales(const Constant& constant) const {
    const size_t count = constant.scales.size();
    const size_t zeros = constant.zero_points.size();
    const bool axis_ok =
        constant.axis >= 0 &&
        static_cast<size_t>(constant.axis) < constant.shape.size();
    const bool count_ok =
        count <= 1 ||
        (axis_ok && static_cast<int64_t>(count) ==
                        constant.shape[static_cast<size_t>(constant.axis)]);
    if (count_ok && (zeros <= 1 || zeros == count)) return;
    Damaged(fmt::format(
        "a constant of shape {} has {} scales and {} zero points "
        "along dimension {}",
        fmt::join(constant.shape, "x"), count, zeros, constant.axis));
  }

  void ReadBlocks(const Graph& graph, const Quantization& q,
                  Constant& constant) const {
    if (q.block_scales < 0 ||
        static_cast<size_t>(q.block_scales) >= graph.tensors.size()) {
      Damaged(fmt::format("scales of blocks are tensor {}", q.block_scales));
    }
    const Tensor& scales = graph.tensors[static_cast<size_t>(q.block_scales)];
    const bool half = scales.type == ElementType::kFloat16;
    constant.type_name += fmt::format(" in blocks of {}", q.block_size);
    const bool whole_blocks = q.block_size > 0 && !constant.shape.empty() &&
                              constant.shape.back() % q.block_size == 0;
    const bool zeros = q.block_zero_points > 0;
    if (!whole_blocks || zeros ||
        (!half && scales.type != ElementType::kFloat32) ||
        static_cast<int64_t>(scales.data.size()) !=
            constant.elements() / q.block_size * (half ? 2 : 4)) {
      constant.type = ElementType::kUnknown;
      constant.type_name +=
          zeros ? " with zero points" : " without their scales";
      return;
    }
    constant.block_scales = scales.data;
    constant.half_block_scales = half;
    constant.block_size = q.block_size;
  }

  using Key =
      std::tuple<const std::byte*, size_t, ElementType, std::vector<int64_t>,
                 std::string, std::vector<int64_t>, int64_t, const std::byte*>;

  File& file_;
  std::map<Key, int32_t> known_;
  size_t entries_left_;
};

}  // namespace

int64_t Constant::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(product, size, &product)) return 0;
  }
  return product;
}

int64_t Constant::cols() const {
  const int64_t all = elements();
  for (const int64_t size : shape) {
    if (size == all) return 1;
  }
  return shape.empty() ? 1 : shape.back();
}

int64_t Constant::rows() const {
  const int64_t width = cols();
  return width == 0 ? 0 : elements() / width;
}

void AddConstants(File& file) { ConstantReader(file).Read(); }

ZeroScales FindZeroScales(const File& file) {
  ZeroScales result;
  for (const Constant& constant : file.constants) {
    int64_t count = 0, first = -1;
    const auto look = [&](int64_t index, bool zero) {
      count += zero;
      if (zero && first < 0) first = index;
    };
    for (size_t i = 0; i < constant.scales.size(); ++i) {
      look(static_cast<int64_t>(i), constant.scales[i] == 0);
    }
    if (constant.block_size > 0 && constant.cols() > 0) {
      const size_t width = constant.half_block_scales ? 2 : 4;
      const std::span<const std::byte> scales = constant.block_scales;
      for (size_t i = 0; i + width <= scales.size(); i += width) {
        uint32_t bits = 0;
        std::memcpy(&bits, scales.data() + i, width);
        // Either sign of 0.
        look(static_cast<int64_t>(i / width) * constant.block_size /
                 constant.cols(),
             (bits & (width == 2 ? 0x7fffu : 0x7fffffffu)) == 0);
      }
    }
    if (count == 0 || ++result.constants > 1) continue;
    result.name = constant.name;
    result.type_name = constant.type_name;
    result.row = first;
    result.count = count;
  }
  return result;
}

std::string Describe(const ZeroScales& scales) {
  std::string text = fmt::format(
      "{} ({}) has {} scales of 0, the first in row {}", Quote(scales.name),
      scales.type_name, scales.count, scales.row);
  if (scales.constants > 1) {
    text += fmt::format("; {} tensors have such", scales.constants);
  }
  return text;
}

}  // namespace verify_tflite::tflite
