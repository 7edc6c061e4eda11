#include "audit/graph.h"

#include <flatbuffers/flexbuffers.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <tuple>

#include "base/flatbuffer.h"
#include "base/utf8.h"
#include "candidate/tflite_file.h"

namespace verify_tflite {
namespace {

// Names may overlap in a damaged file.
constexpr size_t kMaxName = 256;
constexpr size_t kMaxRank = 16;
constexpr size_t kMaxOptions = 1 << 20;

// Fields of the schema's tables, in the order of their declaration.
namespace model {
constexpr size_t kOperatorCodes = 1, kSubgraphs = 2, kBuffers = 4,
                 kSignatures = 7;
}
namespace operator_code {
constexpr size_t kOldBuiltinCode = 0, kCustomCode = 1, kBuiltinCode = 3;
}
namespace subgraph {
constexpr size_t kTensors = 0, kInputs = 1, kOutputs = 2, kOperators = 3;
}
namespace tensor {
constexpr size_t kShape = 0, kType = 1, kBuffer = 2, kName = 3,
                 kQuantization = 4;
}
namespace quantization {
constexpr size_t kScale = 2, kZeroPoint = 3, kDetailsType = 4, kDetails = 5,
                 kDimension = 6;
constexpr uint8_t kNone = 0, kBlockwise = 2;
constexpr size_t kScales = 0, kZeroPoints = 1, kBlockSize = 2;  // of the latter
}  // namespace quantization
namespace op {
constexpr size_t kOpcodeIndex = 0, kInputs = 1, kOutputs = 2, kOptions = 4,
                 kCustomOptions = 5, kLargeOptionsOffset = 9,
                 kLargeOptionsSize = 10, kOptions2Type = 11, kOptions2 = 12;
constexpr uint8_t kCompositeOptions = 21;
constexpr size_t kCompositeName = 0, kBody = 1;  // of StableHLOCompositeOptions
constexpr size_t kAdjointY = 1;                  // of BatchMatMulOptions
constexpr size_t kApproximate = 0;               // of GeluOptions

// Where the options have the fused activation.
std::optional<size_t> ActivationField(int32_t code) {
  switch (code) {
    case kOpAdd:
    case kOpSub:
    case kOpMul:
    case kOpDiv:
    case kOpFullyConnected:
      return 0;
    case kOpConcatenation:
      return 1;
    case kOpConv2d:
      return 3;
    default:
      return std::nullopt;
  }
}
}  // namespace op
namespace signature {
constexpr size_t kInputs = 0, kOutputs = 1, kKey = 2, kSubgraph = 4;
constexpr size_t kName = 0, kTensorIndex = 1;  // of TensorMap
}  // namespace signature
namespace buffer {
// A buffer behind the flatbuffer itself (files above 2 GB) has the latter two.
constexpr size_t kData = 0, kOffset = 1, kSize = 2;
}  // namespace buffer

struct TypeInfo {
  StoredType type;
  int bits;
  const char* name;
};

// By the number of TensorType.
TypeInfo InfoOf(int8_t number) {
  switch (number) {
    case 0:
      return {StoredType::kFloat32, 32, "FLOAT32"};
    case 1:
      return {StoredType::kFloat16, 16, "FLOAT16"};
    case 7:
      return {StoredType::kInt16, 16, "INT16"};
    case 9:
      return {StoredType::kInt8, 8, "INT8"};
    case 17:
      return {StoredType::kInt4, 4, "INT4"};
    case 18:
      return {StoredType::kBFloat16, 16, "BFLOAT16"};
    case 19:
      return {StoredType::kInt2, 2, "INT2"};
    default:
      return {StoredType::kOther, 0, "other"};
  }
}

// Integers of a product's bias. Without scales they are shapes and places.
TypeInfo BiasInfoOf(int8_t number) {
  switch (number) {
    case 2:
      return {StoredType::kInt32, 32, "INT32"};
    case 4:
      return {StoredType::kInt64, 64, "INT64"};
    default:
      return InfoOf(number);
  }
}

// To compare by: NaNs have no order.
std::string Bits(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(float)};
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& what)
      : bytes_(bytes),
        buffer_(bytes, what),
        root_(FlatTable::Root(buffer_)),
        entries_left_(bytes.size() / sizeof(int32_t)) {}

  AuditedFile Read() {
    ReadBuffers();
    ReadOperatorCodes();
    const FlatTables graphs = root_.Tables(model::kSubgraphs);
    for (size_t i = 0; i < graphs.size(); ++i) {
      file_.graphs.push_back(ReadGraph(graphs[i]));
    }
    ReadSignatures();
    return std::move(file_);
  }

 private:
  void ReadBuffers() {
    const FlatTables buffers = root_.Tables(model::kBuffers);
    for (size_t i = 0; i < buffers.size(); ++i) {
      const FlatTable b = buffers[i];
      std::span<const std::byte> data = b.Bytes(buffer::kData);
      const auto offset = b.Scalar<uint64_t>(buffer::kOffset, 0);
      // 1 is the writers' placeholder for none.
      if (data.empty() && offset > 1) {
        const auto size = b.Scalar<uint64_t>(buffer::kSize, 0);
        if (offset > bytes_.size() || size > bytes_.size() - offset) {
          buffer_.Damaged(fmt::format("buffer {} is said to be {} bytes at {}",
                                      i, size, offset));
        }
        data = bytes_.subspan(offset, size);
      }
      buffers_.push_back(data);
    }
  }

  void ReadOperatorCodes() {
    const FlatTables codes = root_.Tables(model::kOperatorCodes);
    for (size_t i = 0; i < codes.size(); ++i) {
      const FlatTable code = codes[i];
      codes_.push_back(std::max<int32_t>(
          code.Scalar<int8_t>(operator_code::kOldBuiltinCode, 0),
          code.Scalar<int32_t>(operator_code::kBuiltinCode, 0)));
      rotates_.push_back(codes_.back() == kOpCustom &&
                         code.String(operator_code::kCustomCode) ==
                             "aeq.hadamard_rotation");
    }
  }

  // Vectors may be shared in a damaged file: in all, no more is copied than
  // there is room for.
  template <typename T>
  std::vector<T> ToVector(const FlatScalars<T>& values) const {
    if (values.size() > entries_left_) buffer_.Damaged("vectors are shared");
    entries_left_ -= values.size();
    std::vector<T> result(values.size());
    for (size_t i = 0; i < result.size(); ++i) result[i] = values[i];
    return result;
  }

  std::span<const std::byte> DataOf(const FlatTable& t) const {
    const auto index = t.Scalar<uint32_t>(tensor::kBuffer, 0);
    if (index >= buffers_.size()) {
      buffer_.Damaged(fmt::format("there is no buffer {}", index));
    }
    return buffers_[index];
  }

  AuditedGraph ReadGraph(const FlatTable& table) {
    AuditedGraph graph;
    const FlatTables tensors = table.Tables(subgraph::kTensors);
    for (size_t i = 0; i < tensors.size(); ++i) {
      graph.tensors.push_back(ReadTensor(tensors, tensors[i]));
    }
    const FlatTables ops = table.Tables(subgraph::kOperators);
    for (size_t i = 0; i < ops.size(); ++i) {
      graph.ops.push_back(ReadOp(ops[i], graph.tensors.size()));
    }
    graph.input_tensors = ToVector(table.Scalars<int32_t>(subgraph::kInputs));
    graph.output_tensors = ToVector(table.Scalars<int32_t>(subgraph::kOutputs));
    CheckTensors(graph.input_tensors, graph.tensors.size());
    CheckTensors(graph.output_tensors, graph.tensors.size());
    Link(graph);
    return graph;
  }

  static void Link(AuditedGraph& graph) {
    for (size_t i = 0; i < graph.ops.size(); ++i) {
      const auto index = static_cast<int32_t>(i);
      for (const int32_t t : graph.ops[i].outputs) {
        if (t >= 0) graph.tensors[t].producer = index;
      }
      for (const int32_t t : graph.ops[i].inputs) {
        if (t < 0) continue;
        auto& consumers = graph.tensors[t].consumers;
        if (consumers.empty() || consumers.back() != index) {
          consumers.push_back(index);
        }
      }
    }
  }

  // -1 is an optional one that is left out.
  void CheckTensors(const std::vector<int32_t>& list, size_t count) const {
    for (const int32_t t : list) {
      if (t >= 0 && static_cast<size_t>(t) >= count) {
        buffer_.Damaged(fmt::format("there is no tensor {}", t));
      }
    }
  }

  AuditedOp ReadOp(const FlatTable& table, size_t num_tensors) const {
    AuditedOp result;
    const auto code = table.Scalar<uint32_t>(op::kOpcodeIndex, 0);
    if (code >= codes_.size()) {
      buffer_.Damaged(fmt::format("there is no operator code {}", code));
    }
    result.code = codes_[code];
    result.inputs = ToVector(table.Scalars<int32_t>(op::kInputs));
    result.outputs = ToVector(table.Scalars<int32_t>(op::kOutputs));
    CheckTensors(result.inputs, num_tensors);
    CheckTensors(result.outputs, num_tensors);
    if (result.code == kOpBatchMatmul) {
      if (const auto options = table.Table(op::kOptions)) {
        result.adjoint_y = options->Scalar<uint8_t>(op::kAdjointY, 0) != 0;
      }
    }
    if (const auto field = op::ActivationField(result.code)) {
      if (const auto options = table.Table(op::kOptions)) {
        result.activation = options->Scalar<int8_t>(*field, 0);
      }
    }
    if (rotates_[code]) result.rotates = BlockSize(CustomOptions(table));
    if (result.code == kOpGelu) {
      if (const auto options = table.Table(op::kOptions)) {
        result.approximate = options->Scalar<uint8_t>(op::kApproximate, 0) != 0;
      }
    }
    if (table.Scalar<uint8_t>(op::kOptions2Type, 0) == op::kCompositeOptions) {
      if (const auto options = table.Table(op::kOptions2)) {
        result.body = options->Scalar<int32_t>(op::kBody, -1);
        result.composite =
            options->String(op::kCompositeName).substr(0, kMaxName);
      }
    }
    return result;
  }

  std::span<const std::byte> CustomOptions(const FlatTable& table) const {
    const auto offset = table.Scalar<uint64_t>(op::kLargeOptionsOffset, 0);
    if (offset <= 1) return table.Bytes(op::kCustomOptions);
    const auto size = table.Scalar<uint64_t>(op::kLargeOptionsSize, 0);
    if (offset > bytes_.size() || size > bytes_.size() - offset) {
      buffer_.Damaged("options of an operator lie outside");
    }
    return bytes_.subspan(offset, size);
  }

  // 0 where it is not said.
  static int64_t BlockSize(std::span<const std::byte> options) {
    const auto* data = reinterpret_cast<const uint8_t*>(options.data());
    std::vector<uint8_t> seen;
    if (options.size() > kMaxOptions ||
        !flexbuffers::VerifyBuffer(data, options.size(), &seen)) {
      return 0;
    }
    const auto root = flexbuffers::GetRoot(data, options.size());
    return root.IsMap() ? root.AsMap()["hadamard_size"].AsInt64() : 0;
  }

  AuditedTensor ReadTensor(const FlatTables& tensors, const FlatTable& t) {
    AuditedTensor result;
    const auto shape = t.Scalars<int32_t>(tensor::kShape);
    if (shape.size() > kMaxRank) {
      buffer_.Damaged(fmt::format("a tensor of {} dimensions", shape.size()));
    }
    result.shape = ToVector(shape);
    result.type = InfoOf(t.Scalar<int8_t>(tensor::kType, 0)).type;
    if (result.type == StoredType::kInt8 || result.type == StoredType::kInt16) {
      result.scale = ScaleOf(t);
    }
    const auto data = DataOf(t);
    if (!data.empty()) result.constant = ReadConstant(tensors, t, data, result);
    return result;
  }

  int32_t ReadConstant(const FlatTables& tensors, const FlatTable& t,
                       std::span<const std::byte> data,
                       const AuditedTensor& view) {
    StoredConstant constant;
    const auto number = t.Scalar<int8_t>(tensor::kType, 0);
    const TypeInfo type = HasScales(t) ? BiasInfoOf(number) : InfoOf(number);
    constant.type = type.type;
    constant.type_name = type.name;
    constant.name = t.String(tensor::kName).substr(0, kMaxName);
    constant.data = data;
    constant.shape.assign(view.shape.begin(), view.shape.end());
    if (type.type != StoredType::kOther) {
      CheckSize(constant, type);
      ReadQuantization(tensors, t, constant);
    }
    const auto key =
        std::make_tuple(data.data(), data.size(), constant.type, constant.shape,
                        Bits(constant.scales), constant.zero_points,
                        constant.axis, constant.block_scales.data());
    const auto [entry, is_new] =
        known_.try_emplace(key, static_cast<int32_t>(file_.constants.size()));
    if (is_new) file_.constants.push_back(std::move(constant));
    return entry->second;
  }

  static bool HasScales(const FlatTable& t) {
    const auto q = t.Table(tensor::kQuantization);
    return q && q->Scalars<float>(quantization::kScale).size() > 0;
  }

  void CheckSize(const StoredConstant& constant, const TypeInfo& type) const {
    uint64_t elements = 1;
    const uint64_t limit = uint64_t{8} * constant.data.size() / type.bits;
    for (const int64_t size : constant.shape) {
      if (size < 0 || (size > 0 && elements > limit / size)) {
        elements = limit + 1;
        break;
      }
      elements *= size;
    }
    if (elements > limit ||
        (elements * type.bits + 7) / 8 != constant.data.size()) {
      buffer_.Damaged(fmt::format("a constant of shape {} has {} bytes",
                                  fmt::join(constant.shape, "x"),
                                  constant.data.size()));
    }
  }

  void ReadQuantization(const FlatTables& tensors, const FlatTable& t,
                        StoredConstant& constant) const {
    const auto q = t.Table(tensor::kQuantization);
    if (!q) return;
    const auto details = q->Scalar<uint8_t>(quantization::kDetailsType, 0);
    if (details == quantization::kBlockwise) {
      ReadBlocks(tensors, *q, constant);
      return;
    }
    if (details != quantization::kNone) {  // a kind without a meaning here
      constant.type = StoredType::kOther;
      constant.type_name += " of an unknown quantisation";
      return;
    }
    constant.scales = ToVector(q->Scalars<float>(quantization::kScale));
    constant.zero_points =
        ToVector(q->Scalars<int64_t>(quantization::kZeroPoint));
    constant.axis = q->Scalar<int32_t>(quantization::kDimension, 0);
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

  void CheckScales(const StoredConstant& constant) const {
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
    buffer_.Damaged(fmt::format(
        "a constant of shape {} has {} scales and {} zero points "
        "along dimension {}",
        fmt::join(constant.shape, "x"), count, zeros, constant.axis));
  }

  void ReadBlocks(const FlatTables& tensors, const FlatTable& q,
                  StoredConstant& constant) const {
    const auto blocks = q.Table(quantization::kDetails);
    if (!blocks) buffer_.Damaged("blockwise quantisation without details");
    const auto index = blocks->Scalar<int32_t>(quantization::kScales, 0);
    const auto size = blocks->Scalar<int32_t>(quantization::kBlockSize, 0);
    if (index < 0 || static_cast<size_t>(index) >= tensors.size()) {
      buffer_.Damaged(fmt::format("there is no tensor {}", index));
    }
    const FlatTable scales = tensors[static_cast<size_t>(index)];
    const TypeInfo type = InfoOf(scales.Scalar<int8_t>(tensor::kType, 0));
    const bool half = type.type == StoredType::kFloat16;
    const std::span<const std::byte> data = DataOf(scales);
    constant.type_name += fmt::format(" in blocks of {}", size);
    const bool whole_blocks = size > 0 && !constant.shape.empty() &&
                              constant.shape.back() % size == 0;
    // A tensor of zero points; 0 is none.
    const bool zeros =
        blocks->Scalar<int32_t>(quantization::kZeroPoints, 0) > 0;
    if (!whole_blocks || zeros ||
        (!half && type.type != StoredType::kFloat32) ||
        static_cast<int64_t>(data.size()) !=
            constant.elements() / size * (half ? 2 : 4)) {
      constant.type = StoredType::kOther;
      constant.type_name +=
          zeros ? " with zero points" : " without their scales";
      return;
    }
    constant.block_scales = data;
    constant.half_block_scales = half;
    constant.block_size = size;
  }

  void ReadSignatures() {
    const FlatTables signatures = root_.Tables(model::kSignatures);
    for (size_t i = 0; i < signatures.size(); ++i) {
      const FlatTable s = signatures[i];
      const auto index = s.Scalar<uint32_t>(signature::kSubgraph, 0);
      if (index >= file_.graphs.size()) {
        buffer_.Damaged(fmt::format("there is no subgraph {}", index));
      }
      AuditedGraph& graph = file_.graphs[index];
      graph.signature = s.String(signature::kKey).substr(0, kMaxName);
      graph.inputs = ReadNames(s.Tables(signature::kInputs), graph);
      graph.outputs = ReadNames(s.Tables(signature::kOutputs), graph);
    }
  }

  std::vector<NamedTensor> ReadNames(const FlatTables& maps,
                                     const AuditedGraph& graph) const {
    std::vector<NamedTensor> names;
    for (size_t i = 0; i < maps.size(); ++i) {
      const FlatTable map = maps[i];
      const auto index = map.Scalar<uint32_t>(signature::kTensorIndex, 0);
      if (index >= graph.tensors.size()) {
        buffer_.Damaged(fmt::format("there is no tensor {}", index));
      }
      names.emplace_back(map.String(signature::kName).substr(0, kMaxName),
                         static_cast<int32_t>(index));
    }
    return names;
  }

  using Key =
      std::tuple<const std::byte*, size_t, StoredType, std::vector<int64_t>,
                 std::string, std::vector<int64_t>, int64_t, const std::byte*>;

  std::span<const std::byte> bytes_;
  FlatBuffer buffer_;
  FlatTable root_;
  AuditedFile file_;
  std::vector<std::span<const std::byte>> buffers_;
  std::vector<int32_t> codes_;
  std::vector<bool> rotates_;  // as codes_
  std::map<Key, int32_t> known_;
  mutable size_t entries_left_;
};

}  // namespace

int64_t StoredConstant::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(product, size, &product)) return 0;
  }
  return product;
}

int64_t StoredConstant::cols() const {
  const int64_t all = elements();
  for (const int64_t size : shape) {
    if (size == all) return 1;
  }
  return shape.empty() ? 1 : shape.back();
}

int64_t StoredConstant::rows() const {
  const int64_t width = cols();
  return width == 0 ? 0 : elements() / width;
}

AuditedFile ReadAuditedFile(std::span<const std::byte> bytes,
                            const std::string& what) {
  return Reader(bytes, what).Read();
}

ZeroScales FindZeroScales(const AuditedFile& file) {
  ZeroScales result;
  for (const StoredConstant& constant : file.constants) {
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

}  // namespace verify_tflite
