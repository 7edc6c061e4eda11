// Fields of tables in tflite/converter/schema/schema.fbs by number, in the
// order of their declaration: what more than one reader needs.
#ifndef VERIFY_TFLITE_CANDIDATE_TFLITE_SCHEMA_H_
#define VERIFY_TFLITE_CANDIDATE_TFLITE_SCHEMA_H_

#include <cstddef>
#include <cstdint>

namespace verify_tflite::tflite_schema {

namespace model {
constexpr size_t kVersion = 0, kOperatorCodes = 1, kSubgraphs = 2,
                 kDescription = 3, kBuffers = 4, kMetadata = 6, kSignatures = 7;
}
namespace operator_code {
constexpr size_t kOldBuiltinCode = 0, kCustomCode = 1, kBuiltinCode = 3;
}
namespace subgraph {
constexpr size_t kTensors = 0, kInputs = 1, kOutputs = 2, kOperators = 3;
}
namespace tensor {
constexpr size_t kShape = 0, kType = 1, kBuffer = 2, kName = 3,
                 kQuantization = 4, kShapeSignature = 7;
}
namespace op {
constexpr size_t kOpcodeIndex = 0, kInputs = 1, kOutputs = 2,
                 kLargeOptionsOffset = 9, kLargeOptionsSize = 10,
                 kOptions2Type = 11, kOptions2 = 12;
constexpr uint8_t kCompositeOptions = 21;
constexpr size_t kCompositeName = 0;  // of StableHLOCompositeOptions
}  // namespace op
namespace buffer {
// The latter two where the data lie behind the flatbuffer itself, as in files
// above 2 GB.
constexpr size_t kData = 0, kOffset = 1, kSize = 2;
}  // namespace buffer
namespace signature {
constexpr size_t kInputs = 0, kOutputs = 1, kKey = 2, kSubgraph = 4;
constexpr size_t kName = 0, kTensorIndex = 1;  // of TensorMap
}  // namespace signature

}  // namespace verify_tflite::tflite_schema

#endif  // VERIFY_TFLITE_CANDIDATE_TFLITE_SCHEMA_H_
