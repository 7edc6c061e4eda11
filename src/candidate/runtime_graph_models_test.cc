// Real files: what tflite/ reads must be what the runtime says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"
#include "candidate/graph.h"
#include "candidate/testing_runtime_graph.h"
#include "tflite/container.h"
#include "tflite/summary.h"

namespace verify_tflite {
namespace {

class RuntimeGraph : public ::testing::TestWithParam<const char*> {
 protected:
  RuntimeGraph()
      : path_(ModelPath(GetParam())),
        container_(path_),
        model_(LoadModel(path_, container_.model().bytes())),
        runtime_(path_, model_.get()),
        file_(container_.model().file()) {}

  std::string path_;
  tflite::Container container_;
  OwnedModel model_;
  RuntimeGraphReader runtime_;
  const tflite::File& file_;
};

void ExpectSame(const std::vector<TensorSpec>& found,
                const std::vector<TensorSpec>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    SCOPED_TRACE(expected[i].name);
    EXPECT_EQ(found[i].name, expected[i].name);
    EXPECT_EQ(found[i].type, expected[i].type);
    EXPECT_EQ(found[i].dims, expected[i].dims);
    EXPECT_EQ(found[i].sequence_axis, expected[i].sequence_axis);
    EXPECT_EQ(found[i].scale, expected[i].scale);
    EXPECT_EQ(found[i].index, expected[i].index);
  }
}

TEST_P(RuntimeGraph, SignaturesAreReadAsTheRuntimeReadsThem) {
  const auto found = ReadSignatures(path_, file_);
  const auto expected = runtime_.Signatures();
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    SCOPED_TRACE(expected[i].name);
    EXPECT_EQ(found[i].name, expected[i].name);
    EXPECT_EQ(found[i].index, expected[i].index);
    EXPECT_EQ(found[i].custom_ops, expected[i].custom_ops);
    ExpectSame(found[i].inputs, expected[i].inputs);
    ExpectSame(found[i].outputs, expected[i].outputs);
  }
}

TEST_P(RuntimeGraph, WeightsAreReadAsTheRuntimeReadsThem) {
  const auto values = [](const std::vector<WeightGroup>& groups) {
    std::vector<std::tuple<std::string, int, int64_t, int, int64_t, int64_t>>
        all;
    for (const WeightGroup& g : groups) {
      all.emplace_back(g.type, static_cast<int>(g.scales), g.block_size,
                       static_cast<int>(g.use), g.bytes, g.elements);
    }
    return all;
  };
  const auto expected = runtime_.WeightGroups();
  EXPECT_THAT(values(ReadWeightGroups(file_)),
              ::testing::ElementsAreArray(values(expected)));
  std::map<std::string, int64_t> bytes;
  for (const WeightGroup& group : expected) bytes[group.type] += group.bytes;
  // Scales of blockwise quantisation are tensors that no operator reads.
  const tflite::Summary summary = Summarize(file_);
  for (const auto& [type, count] : bytes) {
    EXPECT_EQ(summary.weight_bytes.at(type), count) << type;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, RuntimeGraph,
    ::testing::Values("tiny_f32.tflite", "tiny_q8.tflite",
                      "tiny_export_hf.tflite", "tiny_export_hf.litertlm",
                      "tiny_mask.tflite", "tiny_transposed.tflite",
                      "tiny_batch.tflite", "tiny_kv_int8.tflite",
                      "tiny_hf_gpu.tflite", "tiny_hf_q8.tflite",
                      "tiny_hf_hadamard_q4.tflite",
                      "tiny_hf_embedder/model.tflite", "small_ring.tflite",
                      "smollm2_q4_block32.tflite", "smollm2_fp16.tflite"));

}  // namespace
}  // namespace verify_tflite
