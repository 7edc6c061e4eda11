// SPDX-License-Identifier: Apache-2.0
#include "tflite/file.h"

#include <flatbuffers/flexbuffers.h>
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace verify_tflite::tflite {
namespace {

constexpr std::string_view kIdentifier = "TFL3";
constexpr size_t kIdentifierOffset = 4;

constexpr size_t kMaxRank = 16;
constexpr size_t kMaxOptions = 1 << 20;
// What is kept of names that many operators may share.
constexpr size_t kMaxSharedName = 256;
// As converters call it, and the longest that is one.
constexpr std::string_view kRuntimeVersion = "min_runtime_version";
constexpr size_t kMaxVersion = 32;

static_assert(static_cast<int>(ElementType::kFloat32) ==
              schema::TensorType::kFloat32);
static_assert(static_cast<int>(ElementType::kInt8) ==
              schema::TensorType::kInt8);
static_assert(static_cast<int>(ElementType::kInt4) ==
              schema::TensorType::kInt4);
static_assert(static_cast<int>(ElementType::kFloat8E5M2) ==
              schema::TensorType::kFloat8E5m2);

// Returns which field of the operator's options is the fused activation.
std::optional<size_t> ActivationField(int32_t code) {
  switch (code) {
    case kOpAdd:
      return schema::AddOptions::kFusedActivationFunction;
    case kOpSub:
      return schema::SubOptions::kFusedActivationFunction;
    case kOpMul:
      return schema::MulOptions::kFusedActivationFunction;
    case kOpDiv:
      return schema::DivOptions::kFusedActivationFunction;
    case kOpFullyConnected:
      return schema::FullyConnectedOptions::kFusedActivationFunction;
    case kOpConcatenation:
      return schema::ConcatenationOptions::kFusedActivationFunction;
    case kOpConv2d:
      return schema::Conv2DOptions::kFusedActivationFunction;
    default:
      return std::nullopt;
  }
}

// Returns the size of a rotation's blocks, 0 where the options do not say it.
int64_t HadamardSize(std::span<const std::byte> options) {
  const auto* data = reinterpret_cast<const uint8_t*>(options.data());
  std::vector<uint8_t> seen;
  if (options.size() > kMaxOptions ||
      !flexbuffers::VerifyBuffer(data, options.size(), &seen)) {
    return 0;
  }
  const auto root = flexbuffers::GetRoot(data, options.size());
  return root.IsMap() ? root.AsMap()["hadamard_size"].AsInt64() : 0;
}

void Link(Graph& graph) {
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

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& what)
      : buffer_(bytes, what),
        root_(FlatTable::Root(buffer_)),
        entries_left_(bytes.size() / sizeof(int32_t)),
        text_left_(bytes.size()) {
    file_.bytes = bytes;
    file_.what = what;
  }

  File Read() {
    using schema::Model;
    file_.version = root_.Scalar<uint32_t>(Model::kVersion, 0);
    file_.description =
        root_.String(Model::kDescription).substr(0, kMaxSharedName);
    ReadBuffers();
    ReadOperatorCodes();
    const FlatTables graphs = root_.Tables(Model::kSubgraphs);
    for (size_t i = 0; i < graphs.size(); ++i) {
      file_.graphs.push_back(ReadGraph(graphs[i]));
    }
    ReadSignatures();
    ReadMetadata();
    return std::move(file_);
  }

 private:
  // Within all of the file: data may lie behind the flatbuffer itself.
  std::span<const std::byte> Outside(const char* kind, size_t index,
                                     uint64_t offset, uint64_t size) const {
    if (offset > file_.bytes.size() || size > file_.bytes.size() - offset) {
      buffer_.Damaged(fmt::format("{} {} is said to be bytes {} to {}", kind,
                                  index, offset, offset + size));
    }
    return file_.bytes.subspan(offset, size);
  }

  void ReadBuffers() {
    using schema::Buffer;
    const FlatTables buffers = root_.Tables(schema::Model::kBuffers);
    for (size_t i = 0; i < buffers.size(); ++i) {
      const FlatTable b = buffers[i];
      std::span<const std::byte> data = b.Bytes(Buffer::kData);
      const auto offset = b.Scalar<uint64_t>(Buffer::kOffset, 0);
      // 1 is the writers' placeholder for none.
      if (data.empty() && offset > 1) {
        data =
            Outside("buffer", i, offset, b.Scalar<uint64_t>(Buffer::kSize, 0));
      }
      buffers_.push_back(data);
    }
  }

  void ReadOperatorCodes() {
    using schema::OperatorCode;
    const FlatTables codes = root_.Tables(schema::Model::kOperatorCodes);
    for (size_t i = 0; i < codes.size(); ++i) {
      const FlatTable code = codes[i];
      Op op;
      op.code = std::max<int32_t>(
          code.Scalar<int8_t>(OperatorCode::kDeprecatedBuiltinCode, 0),
          code.Scalar<int32_t>(OperatorCode::kBuiltinCode, 0));
      if (op.code == kOpCustom) {
        op.custom =
            code.String(OperatorCode::kCustomCode).substr(0, kMaxSharedName);
      }
      codes_.push_back(std::move(op));
    }
  }

  // Names and vectors may overlap in a damaged file: in all, no more is copied
  // than there is room for.
  std::string Text(std::string_view text) {
    if (text.size() > text_left_) buffer_.Damaged("names overlap");
    text_left_ -= text.size();
    return std::string(text);
  }

  template <typename T>
  std::vector<T> ToVector(const FlatScalars<T>& values) {
    if (values.size() > entries_left_) buffer_.Damaged("vectors are shared");
    entries_left_ -= values.size();
    std::vector<T> result(values.size());
    for (size_t i = 0; i < result.size(); ++i) result[i] = values[i];
    return result;
  }

  std::span<const std::byte> BufferAt(uint32_t index) const {
    if (index < buffers_.size()) return buffers_[index];
    buffer_.Damaged(fmt::format("there is no buffer {}", index));
  }

  // -1 is an optional one that is left out.
  void CheckTensors(const std::vector<int32_t>& list, size_t count) const {
    for (const int32_t t : list) {
      if (t >= 0 && static_cast<size_t>(t) >= count) {
        buffer_.Damaged(fmt::format("there is no tensor {}", t));
      }
    }
  }

  Graph ReadGraph(const FlatTable& table) {
    using schema::SubGraph;
    Graph graph;
    const FlatTables tensors = table.Tables(SubGraph::kTensors);
    for (size_t i = 0; i < tensors.size(); ++i) {
      graph.tensors.push_back(ReadTensor(tensors[i]));
    }
    const size_t count = graph.tensors.size();
    const FlatTables ops = table.Tables(SubGraph::kOperators);
    for (size_t i = 0; i < ops.size(); ++i) {
      graph.ops.push_back(ReadOp(ops[i], i, count));
    }
    graph.input_tensors = ToVector(table.Scalars<int32_t>(SubGraph::kInputs));
    graph.output_tensors = ToVector(table.Scalars<int32_t>(SubGraph::kOutputs));
    CheckTensors(graph.input_tensors, count);
    CheckTensors(graph.output_tensors, count);
    Link(graph);
    return graph;
  }

  Tensor ReadTensor(const FlatTable& table) {
    Tensor tensor;
    tensor.name = Text(table.String(schema::Tensor::kName));
    tensor.type = std::min(static_cast<ElementType>(
                               table.Scalar<uint8_t>(schema::Tensor::kType, 0)),
                           ElementType::kUnknown);
    tensor.shape = ReadShape(table, schema::Tensor::kShape);
    tensor.any_shape = ReadShape(table, schema::Tensor::kShapeSignature);
    tensor.has_rank = !tensor.shape.empty() ||
                      table.Scalar<uint8_t>(schema::Tensor::kHasRank, 0) != 0;
    if (const auto q = table.Table(schema::Tensor::kQuantization)) {
      tensor.quantization = ReadQuantization(*q);
    }
    if (tensor.type == ElementType::kInt8 ||
        tensor.type == ElementType::kInt16) {
      tensor.scale = ScaleOf(tensor);
    }
    tensor.buffer = table.Scalar<uint32_t>(schema::Tensor::kBuffer, 0);
    tensor.data = BufferAt(tensor.buffer);
    return tensor;
  }

  std::vector<int32_t> ReadShape(const FlatTable& table, size_t field) {
    const auto shape = table.Scalars<int32_t>(field);
    if (shape.size() > kMaxRank) {
      buffer_.Damaged(fmt::format("a tensor of {} dimensions", shape.size()));
    }
    return ToVector(shape);
  }

  static Quantization ReadQuantization(const FlatTable& table) {
    using schema::BlockwiseQuantization;
    using schema::QuantizationParameters;
    Quantization q;
    q.details = table.Scalar<uint8_t>(QuantizationParameters::kDetailsType, 0);
    q.scales = table.Scalars<float>(QuantizationParameters::kScale);
    q.zero_points = table.Scalars<int64_t>(QuantizationParameters::kZeroPoint);
    q.axis =
        table.Scalar<int32_t>(QuantizationParameters::kQuantizedDimension, 0);
    if (q.details != schema::QuantizationDetails::kBlockwiseQuantization) {
      return q;
    }
    if (const auto blocks = table.Table(QuantizationParameters::kDetails)) {
      q.block_scales =
          blocks->Scalar<int32_t>(BlockwiseQuantization::kScales, 0);
      q.block_zero_points =
          blocks->Scalar<int32_t>(BlockwiseQuantization::kZeroPoints, 0);
      q.block_size =
          blocks->Scalar<int32_t>(BlockwiseQuantization::kBlockSize, 0);
    }
    return q;
  }

  Op ReadOp(const FlatTable& table, size_t index, size_t num_tensors) {
    using schema::Operator;
    const auto code = table.Scalar<uint32_t>(Operator::kOpcodeIndex, 0);
    if (code >= codes_.size()) {
      buffer_.Damaged(fmt::format("there is no operator code {}", code));
    }
    Op op = codes_[code];
    op.inputs = ToVector(table.Scalars<int32_t>(Operator::kInputs));
    op.outputs = ToVector(table.Scalars<int32_t>(Operator::kOutputs));
    CheckTensors(op.inputs, num_tensors);
    CheckTensors(op.outputs, num_tensors);
    if (const auto field = ActivationField(op.code)) {
      op.activation = Option<int8_t>(table, *field);
    } else if (op.code == kOpBatchMatmul) {
      op.adjoint_y =
          Option<uint8_t>(table, schema::BatchMatMulOptions::kAdjY) != 0;
    } else if (op.code == kOpGelu) {
      op.approximate =
          Option<uint8_t>(table, schema::GeluOptions::kApproximate) != 0;
    } else if (op.custom == "aeq.hadamard_rotation") {
      op.rotates = HadamardSize(CustomOptions(table, index));
    }
    ReadComposite(table, op);
    return op;
  }

  template <typename T>
  static T Option(const FlatTable& table, size_t field) {
    const auto options = table.Table(schema::Operator::kBuiltinOptions);
    return options ? options->Scalar<T>(field, 0) : T{0};
  }

  static void ReadComposite(const FlatTable& table, Op& op) {
    using schema::StableHLOCompositeOptions;
    if (table.Scalar<uint8_t>(schema::Operator::kBuiltinOptions2Type, 0) !=
        schema::BuiltinOptions2::kStableHLOCompositeOptions) {
      return;
    }
    if (const auto options = table.Table(schema::Operator::kBuiltinOptions2)) {
      op.body = options->Scalar<int32_t>(
          StableHLOCompositeOptions::kDecompositionSubgraphIndex, -1);
      op.composite = options->String(StableHLOCompositeOptions::kName)
                         .substr(0, kMaxSharedName);
    }
  }

  std::span<const std::byte> CustomOptions(const FlatTable& table,
                                           size_t index) const {
    using schema::Operator;
    const auto offset =
        table.Scalar<uint64_t>(Operator::kLargeCustomOptionsOffset, 0);
    if (offset <= 1) return table.Bytes(Operator::kCustomOptions);
    return Outside(
        "the options of operator", index, offset,
        table.Scalar<uint64_t>(Operator::kLargeCustomOptionsSize, 0));
  }

  void ReadSignatures() {
    using schema::SignatureDef;
    const FlatTables signatures = root_.Tables(schema::Model::kSignatureDefs);
    for (size_t i = 0; i < signatures.size(); ++i) {
      const FlatTable s = signatures[i];
      const auto index = s.Scalar<uint32_t>(SignatureDef::kSubgraphIndex, 0);
      if (index >= file_.graphs.size()) {
        buffer_.Damaged(fmt::format("there is no subgraph {}", index));
      }
      Graph& graph = file_.graphs[index];
      const Signature& read = file_.signatures.emplace_back(
          Signature{Text(s.String(SignatureDef::kSignatureKey)),
                    static_cast<int32_t>(index),
                    ReadNames(s.Tables(SignatureDef::kInputs), graph),
                    ReadNames(s.Tables(SignatureDef::kOutputs), graph)});
      graph.signature = read.name;
      graph.inputs = read.inputs;
      graph.outputs = read.outputs;
    }
  }

  std::vector<NamedTensor> ReadNames(const FlatTables& maps,
                                     const Graph& graph) {
    using schema::TensorMap;
    std::vector<NamedTensor> names;
    for (size_t i = 0; i < maps.size(); ++i) {
      const FlatTable map = maps[i];
      const auto index = map.Scalar<uint32_t>(TensorMap::kTensorIndex, 0);
      if (index >= graph.tensors.size()) {
        buffer_.Damaged(fmt::format("there is no tensor {}", index));
      }
      names.emplace_back(Text(map.String(TensorMap::kName)),
                         static_cast<int32_t>(index));
    }
    return names;
  }

  void ReadMetadata() {
    using schema::Metadata;
    const FlatTables entries = root_.Tables(schema::Model::kMetadata);
    for (size_t i = 0; i < entries.size(); ++i) {
      const FlatTable entry = entries[i];
      const auto name = entry.String(Metadata::kName).substr(0, kMaxSharedName);
      const auto content =
          BufferAt(entry.Scalar<uint32_t>(Metadata::kBuffer, 0));
      file_.metadata.emplace_back(name, content.size());
      if (name == kRuntimeVersion) file_.min_runtime_version = Version(content);
    }
  }

  // Text that ends in zeros; empty where it is no version.
  static std::string Version(std::span<const std::byte> content) {
    std::string text;
    for (const std::byte byte :
         content.first(std::min(content.size(), kMaxVersion))) {
      const char c = static_cast<char>(byte);
      if (c == '\0') break;
      if (c != '.' && (c < '0' || c > '9')) return "";
      text += c;
    }
    return text;
  }

  FlatBuffer buffer_;
  FlatTable root_;
  File file_;
  std::vector<std::span<const std::byte>> buffers_;
  std::vector<Op> codes_;  // what operators of each code have in common
  size_t entries_left_;
  size_t text_left_;
};

}  // namespace

std::optional<TensorScale> ScaleOf(const Tensor& tensor) {
  const auto& q = tensor.quantization;
  if (!q || q->details != schema::QuantizationDetails::kNone ||
      q->scales.size() != 1) {
    return std::nullopt;
  }
  return TensorScale{
      .scale = q->scales[0],
      .zero_point = q->zero_points.size() == 0 ? 0 : q->zero_points[0]};
}

std::string NameOf(const Op& op) {
  if (op.code == kOpCustom) return "CUSTOM " + op.custom;
  for (const auto& [code, name] : kOperatorNames) {
    if (code == op.code) return std::string(name);
  }
  return fmt::format("operator {}", op.code);
}

std::string KindOf(const Op& op) {
  return op.composite.empty() ? NameOf(op) : op.composite;
}

File File::Read(std::span<const std::byte> bytes, const std::string& what) {
  File file = Reader(bytes, what).Read();
  try {
    AddConstants(file);
  } catch (const Error& e) {
    file.damaged_constant = e.what();
    file.constants.clear();
    for (Graph& graph : file.graphs) {
      for (Tensor& tensor : graph.tensors) tensor.constant = -1;
    }
  }
  return file;
}

void File::CheckConstants() const {
  if (!damaged_constant.empty()) throw Error("{}", damaged_constant);
}

bool IsTflite(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              bytes.size());
  return text.size() > kIdentifierOffset &&
         text.substr(kIdentifierOffset).starts_with(kIdentifier);
}

}  // namespace verify_tflite::tflite
