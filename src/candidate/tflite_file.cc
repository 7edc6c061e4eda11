#include "candidate/tflite_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/flatbuffer.h"
#include "candidate/runtime.h"
#include "candidate/tflite_schema.h"

namespace verify_tflite {
namespace {

using namespace tflite_schema;

constexpr std::string_view kIdentifier = "TFL3";
constexpr size_t kIdentifierOffset = 4;

// Names may overlap in a damaged file: what is kept of each is limited, and so
// are ranks.
constexpr size_t kMaxName = 256;
constexpr size_t kMaxRank = 16;

// Fields of the schema's tables that no one else reads.
namespace quantization {
constexpr size_t kScale = 2, kZeroPoint = 3, kDetailsType = 4, kDetails = 5;
constexpr uint8_t kBlockwise = 2, kMultiAxis = 3;
constexpr size_t kBlockSize = 2;  // of BlockwiseQuantization
}  // namespace quantization
namespace metadata {
constexpr size_t kName = 0, kBuffer = 1;
}

constexpr int32_t kCustom = 32;
// Builtin operators by number.
constexpr const char* kOps[] = {
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "DEPTH_TO_SPACE",
    "DEQUANTIZE",
    "EMBEDDING_LOOKUP",
    "FLOOR",
    "FULLY_CONNECTED",
    "HASHTABLE_LOOKUP",
    "L2_NORMALIZATION",
    "L2_POOL_2D",
    "LOCAL_RESPONSE_NORMALIZATION",
    "LOGISTIC",
    "LSH_PROJECTION",
    "LSTM",
    "MAX_POOL_2D",
    "MUL",
    "RELU",
    "RELU_N1_TO_1",
    "RELU6",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RNN",
    "SOFTMAX",
    "SPACE_TO_DEPTH",
    "SVDF",
    "TANH",
    "CONCAT_EMBEDDINGS",
    "SKIP_GRAM",
    "CALL",
    "CUSTOM",
    "EMBEDDING_LOOKUP_SPARSE",
    "PAD",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "GATHER",
    "BATCH_TO_SPACE_ND",
    "SPACE_TO_BATCH_ND",
    "TRANSPOSE",
    "MEAN",
    "SUB",
    "DIV",
    "SQUEEZE",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "STRIDED_SLICE",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "EXP",
    "TOPK_V2",
    "SPLIT",
    "LOG_SOFTMAX",
    "DELEGATE",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "CAST",
    "PRELU",
    "MAXIMUM",
    "ARG_MAX",
    "MINIMUM",
    "LESS",
    "NEG",
    "PADV2",
    "GREATER",
    "GREATER_EQUAL",
    "LESS_EQUAL",
    "SELECT",
    "SLICE",
    "SIN",
    "TRANSPOSE_CONV",
    "SPARSE_TO_DENSE",
    "TILE",
    "EXPAND_DIMS",
    "EQUAL",
    "NOT_EQUAL",
    "LOG",
    "SUM",
    "SQRT",
    "RSQRT",
    "SHAPE",
    "POW",
    "ARG_MIN",
    "FAKE_QUANT",
    "REDUCE_PROD",
    "REDUCE_MAX",
    "PACK",
    "LOGICAL_OR",
    "ONE_HOT",
    "LOGICAL_AND",
    "LOGICAL_NOT",
    "UNPACK",
    "REDUCE_MIN",
    "FLOOR_DIV",
    "REDUCE_ANY",
    "SQUARE",
    "ZEROS_LIKE",
    "FILL",
    "FLOOR_MOD",
    "RANGE",
    "RESIZE_NEAREST_NEIGHBOR",
    "LEAKY_RELU",
    "SQUARED_DIFFERENCE",
    "MIRROR_PAD",
    "ABS",
    "SPLIT_V",
    "UNIQUE",
    "CEIL",
    "REVERSE_V2",
    "ADD_N",
    "GATHER_ND",
    "COS",
    "WHERE",
    "RANK",
    "ELU",
    "REVERSE_SEQUENCE",
    "MATRIX_DIAG",
    "QUANTIZE",
    "MATRIX_SET_DIAG",
    "ROUND",
    "HARD_SWISH",
    "IF",
    "WHILE",
    "NON_MAX_SUPPRESSION_V4",
    "NON_MAX_SUPPRESSION_V5",
    "SCATTER_ND",
    "SELECT_V2",
    "DENSIFY",
    "SEGMENT_SUM",
    "BATCH_MATMUL",
    "PLACEHOLDER_FOR_GREATER_OP_CODES",
    "CUMSUM",
    "CALL_ONCE",
    "BROADCAST_TO",
    "RFFT2D",
    "CONV_3D",
    "IMAG",
    "REAL",
    "COMPLEX_ABS",
    "HASHTABLE",
    "HASHTABLE_FIND",
    "HASHTABLE_IMPORT",
    "HASHTABLE_SIZE",
    "REDUCE_ALL",
    "CONV_3D_TRANSPOSE",
    "VAR_HANDLE",
    "READ_VARIABLE",
    "ASSIGN_VARIABLE",
    "BROADCAST_ARGS",
    "RANDOM_STANDARD_NORMAL",
    "BUCKETIZE",
    "RANDOM_UNIFORM",
    "MULTINOMIAL",
    "GELU",
    "DYNAMIC_UPDATE_SLICE",
    "RELU_0_TO_1",
    "UNSORTED_SEGMENT_PROD",
    "UNSORTED_SEGMENT_MAX",
    "UNSORTED_SEGMENT_SUM",
    "ATAN2",
    "UNSORTED_SEGMENT_MIN",
    "SIGN",
    "BITCAST",
    "BITWISE_XOR",
    "RIGHT_SHIFT",
    "STABLEHLO_LOGISTIC",
    "STABLEHLO_ADD",
    "STABLEHLO_DIVIDE",
    "STABLEHLO_MULTIPLY",
    "STABLEHLO_MAXIMUM",
    "STABLEHLO_RESHAPE",
    "STABLEHLO_CLAMP",
    "STABLEHLO_CONCATENATE",
    "STABLEHLO_BROADCAST_IN_DIM",
    "STABLEHLO_CONVOLUTION",
    "STABLEHLO_SLICE",
    "STABLEHLO_CUSTOM_CALL",
    "STABLEHLO_REDUCE",
    "STABLEHLO_ABS",
    "STABLEHLO_AND",
    "STABLEHLO_COSINE",
    "STABLEHLO_EXPONENTIAL",
    "STABLEHLO_FLOOR",
    "STABLEHLO_LOG",
    "STABLEHLO_MINIMUM",
    "STABLEHLO_NEGATE",
    "STABLEHLO_OR",
    "STABLEHLO_POWER",
    "STABLEHLO_REMAINDER",
    "STABLEHLO_RSQRT",
    "STABLEHLO_SELECT",
    "STABLEHLO_SUBTRACT",
    "STABLEHLO_TANH",
    "STABLEHLO_SCATTER",
    "STABLEHLO_COMPARE",
    "STABLEHLO_CONVERT",
    "STABLEHLO_DYNAMIC_SLICE",
    "STABLEHLO_DYNAMIC_UPDATE_SLICE",
    "STABLEHLO_PAD",
    "STABLEHLO_IOTA",
    "STABLEHLO_DOT_GENERAL",
    "STABLEHLO_REDUCE_WINDOW",
    "STABLEHLO_SORT",
    "STABLEHLO_WHILE",
    "STABLEHLO_GATHER",
    "STABLEHLO_TRANSPOSE",
    "DILATE",
    "STABLEHLO_RNG_BIT_GENERATOR",
    "REDUCE_WINDOW",
    "STABLEHLO_COMPOSITE",
    "STABLEHLO_SHIFT_LEFT",
    "STABLEHLO_CBRT",
    "STABLEHLO_CASE",

};

struct Type {
  const char* name;
  int bits;  // 0: no fixed size
};
// Tensor types by number. Not the numbers of litert_abi.h.
constexpr Type kTypes[] = {
    {"FLOAT32", 32},      {"FLOAT16", 16},    {"INT32", 32},
    {"UINT8", 8},         {"INT64", 64},      {"STRING", 0},
    {"BOOL", 8},          {"INT16", 16},      {"COMPLEX64", 64},
    {"INT8", 8},          {"FLOAT64", 64},    {"COMPLEX128", 128},
    {"UINT64", 64},       {"RESOURCE", 0},    {"VARIANT", 0},
    {"UINT32", 32},       {"UINT16", 16},     {"INT4", 4},
    {"BFLOAT16", 16},     {"INT2", 2},        {"UINT4", 4},
    {"FLOAT8_E4M3FN", 8}, {"FLOAT8_E5M2", 8},
};

Type TypeOf(const FlatTable& t) {
  const auto number = static_cast<size_t>(t.Scalar<int8_t>(tensor::kType, 0));
  return number < std::size(kTypes) ? kTypes[number] : Type{"unknown type", 0};
}

std::string Name(std::string_view text) {
  return std::string(text.substr(0, kMaxName));
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& what)
      : file_size_(bytes.size()),
        buffer_(bytes, what),
        root_(FlatTable::Root(buffer_)) {}

  TfliteFile Read() {
    file_.version = root_.Scalar<uint32_t>(model::kVersion, 0);
    file_.description = Name(root_.String(model::kDescription));
    ReadBuffers();
    ReadOperatorCodes();
    subgraphs_ = root_.Tables(model::kSubgraphs);
    file_.subgraphs = static_cast<int64_t>(subgraphs_.size());
    for (size_t i = 0; i < subgraphs_.size(); ++i) {
      const FlatTable graph = subgraphs_[i];
      ReadOps(graph.Tables(subgraph::kOperators));
      const FlatTables tensors = graph.Tables(subgraph::kTensors);
      for (size_t j = 0; j < tensors.size(); ++j) ReadWeight(tensors[j]);
    }
    ReadSignatures();
    ReadMetadata();
    return std::move(file_);
  }

 private:
  void ReadBuffers() {
    const FlatTables buffers = root_.Tables(model::kBuffers);
    for (size_t i = 0; i < buffers.size(); ++i) {
      const FlatTable b = buffers[i];
      uint64_t size = b.Bytes(buffer::kData).size();
      const auto offset = b.Scalar<uint64_t>(buffer::kOffset, 0);
      // 1 is the writers' placeholder for none.
      if (size == 0 && offset > 1) {
        size = b.Scalar<uint64_t>(buffer::kSize, 0);
        if (offset > file_size_ || size > file_size_ - offset) {
          buffer_.Damaged(fmt::format("buffer {} is said to be bytes {} to {}",
                                      i, offset, offset + size));
        }
      }
      buffer_sizes_.push_back(static_cast<int64_t>(size));
    }
    counted_.resize(buffer_sizes_.size());
  }

  int64_t BufferSize(uint32_t index) const {
    if (index < buffer_sizes_.size()) return buffer_sizes_[index];
    buffer_.Damaged(fmt::format("there is no buffer {}", index));
  }

  void ReadOperatorCodes() {
    const FlatTables codes = root_.Tables(model::kOperatorCodes);
    for (size_t i = 0; i < codes.size(); ++i) {
      const FlatTable code = codes[i];
      op_names_.push_back(OperatorName(code));
    }
  }

  void ReadOps(const FlatTables& ops) {
    for (size_t i = 0; i < ops.size(); ++i) {
      const FlatTable o = ops[i];
      const auto code = o.Scalar<uint32_t>(op::kOpcodeIndex, 0);
      if (code >= op_names_.size()) {
        buffer_.Damaged(fmt::format("there is no operator code {}", code));
      }
      ++file_.ops[op_names_[code]];
      if (o.Scalar<uint8_t>(op::kOptions2Type, 0) != op::kCompositeOptions) {
        continue;
      }
      if (const auto options = o.Table(op::kOptions2)) {
        ++file_.composites[Name(options->String(op::kCompositeName))];
      }
    }
  }

  void ReadWeight(const FlatTable& t) {
    const auto index = t.Scalar<uint32_t>(tensor::kBuffer, 0);
    const int64_t bytes = BufferSize(index);
    if (bytes == 0 || counted_[index]) return;
    counted_[index] = true;
    const Type type = TypeOf(t);
    TfliteWeights& weights = file_.weights[type.name + HowQuantised(t)];
    ++weights.tensors;
    weights.bytes += bytes;
    if (type.bits > 0) weights.elements += bytes * 8 / type.bits;
    file_.weight_bytes[type.name] += bytes;
  }

  static std::string HowQuantised(const FlatTable& t) {
    const auto q = t.Table(tensor::kQuantization);
    if (!q) return "";
    const auto details = q->Scalar<uint8_t>(quantization::kDetailsType, 0);
    if (details == quantization::kBlockwise) {
      const auto blocks = q->Table(quantization::kDetails);
      return fmt::format(
          " in blocks of {}",
          blocks ? blocks->Scalar<int32_t>(quantization::kBlockSize, 0) : 0);
    }
    if (details == quantization::kMultiAxis) return " along several axes";
    const size_t scales = q->Scalars<float>(quantization::kScale).size();
    if (scales == 0) return "";
    return scales == 1 ? " per tensor" : " per channel";
  }

  void ReadSignatures() {
    const FlatTables signatures = root_.Tables(model::kSignatures);
    for (size_t i = 0; i < signatures.size(); ++i) {
      const FlatTable s = signatures[i];
      const auto graph = s.Scalar<uint32_t>(signature::kSubgraph, 0);
      if (graph >= subgraphs_.size()) {
        buffer_.Damaged(fmt::format("there is no subgraph {}", graph));
      }
      const FlatTables tensors = subgraphs_[graph].Tables(subgraph::kTensors);
      file_.signatures.push_back(
          {Name(s.String(signature::kKey)),
           ReadTensors(s.Tables(signature::kInputs), tensors),
           ReadTensors(s.Tables(signature::kOutputs), tensors)});
    }
  }

  std::vector<TfliteTensor> ReadTensors(const FlatTables& maps,
                                        const FlatTables& tensors) {
    std::vector<TfliteTensor> result;
    for (size_t i = 0; i < maps.size(); ++i) {
      const FlatTable map = maps[i];
      const auto index = map.Scalar<uint32_t>(signature::kTensorIndex, 0);
      if (index >= tensors.size()) {
        buffer_.Damaged(fmt::format("there is no tensor {}", index));
      }
      const FlatTable t = tensors[index];
      TfliteTensor found = {
          Name(map.String(signature::kName)), TypeOf(t).name, {},
                            ScaleOf(t)};
      auto shape = t.Scalars<int32_t>(tensor::kShapeSignature);
      if (shape.size() == 0) shape = t.Scalars<int32_t>(tensor::kShape);
      if (shape.size() > kMaxRank) {
        buffer_.Damaged(fmt::format("a tensor of {} dimensions", shape.size()));
      }
      for (size_t j = 0; j < shape.size(); ++j) found.shape.push_back(shape[j]);
      result.push_back(std::move(found));
    }
    return result;
  }

  void ReadMetadata() {
    const FlatTables entries = root_.Tables(model::kMetadata);
    for (size_t i = 0; i < entries.size(); ++i) {
      const FlatTable entry = entries[i];
      file_.metadata.emplace_back(
          Name(entry.String(metadata::kName)),
          BufferSize(entry.Scalar<uint32_t>(metadata::kBuffer, 0)));
    }
  }

  uint64_t file_size_;
  FlatBuffer buffer_;
  FlatTable root_;
  TfliteFile file_;
  FlatTables subgraphs_;
  std::vector<int64_t> buffer_sizes_;
  std::vector<bool> counted_;
  std::vector<std::string> op_names_;
};

}  // namespace

std::string OperatorName(const FlatTable& code) {
  const int32_t number =
      std::max<int32_t>(code.Scalar<int8_t>(operator_code::kOldBuiltinCode, 0),
                        code.Scalar<int32_t>(operator_code::kBuiltinCode, 0));
  if (number == kCustom) {
    return "CUSTOM " + Name(code.String(operator_code::kCustomCode));
  }
  if (number >= 0 && static_cast<size_t>(number) < std::size(kOps)) {
    return kOps[number];
  }
  return fmt::format("operator {}", number);
}

std::string TensorTypeName(const FlatTable& tensor) {
  return TypeOf(tensor).name;
}

LiteRtElementType ElementTypeOf(const FlatTable& tensor) {
  return ElementTypeByName(TensorTypeName(tensor));
}

std::optional<TensorScale> ScaleOf(const FlatTable& t) {
  const auto q = t.Table(tensor::kQuantization);
  if (!q || q->Scalar<uint8_t>(quantization::kDetailsType, 0) != 0) {
    return std::nullopt;
  }
  const auto scales = q->Scalars<float>(quantization::kScale);
  if (scales.size() != 1) return std::nullopt;
  const auto zero_points = q->Scalars<int64_t>(quantization::kZeroPoint);
  return TensorScale{
      .scale = scales[0],
      .zero_point = zero_points.size() == 0 ? 0 : zero_points[0]};
}

bool IsTflite(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              bytes.size());
  return text.size() > kIdentifierOffset &&
         text.substr(kIdentifierOffset).starts_with(kIdentifier);
}

TfliteFile ReadTfliteFile(std::span<const std::byte> bytes,
                          const std::string& what) {
  return Reader(bytes, what).Read();
}

}  // namespace verify_tflite
