// What a .tflite file holds, read without the runtime: also of files that it
// would not load.
//
// Schema: tflite/converter/schema/schema.fbs. Pure; every size is checked.
#ifndef VERIFY_TFLITE_CANDIDATE_TFLITE_FILE_H_
#define VERIFY_TFLITE_CANDIDATE_TFLITE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/flatbuffer.h"
#include "base/tensor_scale.h"
#include "candidate/litert_abi.h"

namespace verify_tflite {

struct TfliteTensor {
  std::string name;                                 // as the signature calls it
  std::string type;                                 // "FLOAT32", …
  std::vector<int32_t> shape;                       // -1: any
  std::optional<TensorScale> scale = std::nullopt;  // of one for the tensor
};

struct TfliteSignature {
  std::string name;
  std::vector<TfliteTensor> inputs;
  std::vector<TfliteTensor> outputs;
};

// Constants stored alike.
struct TfliteWeights {
  int64_t tensors = 0;
  int64_t bytes = 0;
  int64_t elements = 0;  // 0 for types without a fixed size
};

struct TfliteFile {
  std::string description;
  uint32_t version = 0;
  std::vector<std::pair<std::string, int64_t>> metadata;  // name, bytes
  std::vector<TfliteSignature> signatures;
  int64_t subgraphs = 0;
  std::map<std::string, int64_t> ops;         // "FULLY_CONNECTED", …
  std::map<std::string, int64_t> composites;  // of STABLEHLO_COMPOSITE, by name
  // Constants by how they are stored: "FLOAT32", "INT8 per channel", "INT4 in
  // blocks of 32", … What several tensors share counts once.
  std::map<std::string, TfliteWeights> weights;
  std::map<std::string, int64_t> weight_bytes;  // by type alone
};

// "FULLY_CONNECTED", … of an OperatorCode; "FLOAT32", … of a Tensor.
std::string OperatorName(const FlatTable& code);
std::string TensorTypeName(const FlatTable& tensor);
// The same as the runtime counts it; kLiteRtElementTypeNone for types that are
// no numbers.
LiteRtElementType ElementTypeOf(const FlatTable& tensor);
// Of a Tensor that is quantised with one scale.
std::optional<TensorScale> ScaleOf(const FlatTable& tensor);

// Whether `bytes` begin as a .tflite does.
bool IsTflite(std::span<const std::byte> bytes);

// Throws Error that begins with `what` when the file is damaged or incomplete.
TfliteFile ReadTfliteFile(std::span<const std::byte> bytes,
                          const std::string& what);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_TFLITE_FILE_H_
