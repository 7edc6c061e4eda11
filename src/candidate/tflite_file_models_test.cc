// Real files: what tflite_file reads must be what the runtime says.
#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "base/testing.h"
#include "candidate/graph.h"
#include "candidate/runtime.h"
#include "candidate/tflite_file.h"

namespace verify_tflite {
namespace {

class TfliteFileModels : public ::testing::TestWithParam<const char*> {};

void ExpectSame(const std::vector<TfliteTensor>& found,
                const std::vector<TensorSpec>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (const TfliteTensor& tensor : found) {
    // The runtime's order is the graph's, not the signature's.
    const auto same = std::find_if(
        expected.begin(), expected.end(),
        [&](const TensorSpec& t) { return t.name == tensor.name; });
    ASSERT_NE(same, expected.end()) << tensor.name;
    EXPECT_EQ(tensor.type, ElementTypeName(same->type));
    EXPECT_EQ(std::vector<int64_t>(tensor.shape.begin(), tensor.shape.end()),
              same->dims);
  }
}

TEST_P(TfliteFileModels, AreReadAsTheRuntimeReadsThem) {
  const std::string path = ModelPath(GetParam());
  const MappedFile mapped(path);
  const TfliteFile file = ReadTfliteFile(mapped.bytes(), path);

  const auto& lib = Runtime::Get();
  Owned<&Runtime::LiteRtDestroyModel> model;
  Call(path, lib.LiteRtCreateModelFromBuffer, lib.environment,
       mapped.bytes().data(), mapped.bytes().size(), model.receive());
  const auto signatures = ReadSignatures(path, model.get());
  ASSERT_EQ(file.signatures.size(), signatures.size());
  for (size_t i = 0; i < signatures.size(); ++i) {
    EXPECT_EQ(file.signatures[i].name, signatures[i].name);
    ExpectSame(file.signatures[i].inputs, signatures[i].inputs);
    ExpectSame(file.signatures[i].outputs, signatures[i].outputs);
  }
  std::map<std::string, int64_t> expected;
  for (const WeightGroup& group : ReadWeightGroups(path, model.get())) {
    expected[group.type] += group.bytes;
  }
  // Scales of blockwise quantisation are tensors that no operator reads.
  for (const auto& [type, bytes] : expected) {
    EXPECT_EQ(file.weight_bytes.at(type), bytes) << type;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TfliteFileModels,
                         ::testing::Values("tiny_f32.tflite", "tiny_q8.tflite",
                                           "tiny_export_hf.tflite",
                                           "smollm2_q4_block32.tflite",
                                           "smollm2_fp16.tflite"));

}  // namespace
}  // namespace verify_tflite
