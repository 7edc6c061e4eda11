// Local verification of files whose weights are rotated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/testing.h"
#include "structure/structure_check.h"

namespace verify_tflite {
namespace {

using ::testing::IsEmpty;
using ::testing::IsSupersetOf;

class RotatedFile : public ::testing::TestWithParam<const char*> {};

// Products behind a rotation, and a lookup before one.
TEST_P(RotatedFile, IsVerifiedWhole) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  const std::string path = ModelPath(GetParam());
  const Model model = Model::Open(path);
  const FileGraph file = OpenFileGraph(path, checkpoint);
  std::vector<int32_t> ids(80);
  std::iota(ids.begin(), ids.end(), 100);
  const PlainLogits plain;
  StructureCheck check({.model = model,
                        .checkpoint = checkpoint,
                        .file = file,
                        .ids = ids,
                        .plain = plain});
  const Structure structure = check.Compare();
  EXPECT_THAT(structure.faults, IsEmpty());
  ASSERT_FALSE(structure.signatures.empty());
  for (const SignatureStructure& signature : structure.signatures) {
    SCOPED_TRACE(signature.signature);
    EXPECT_EQ(signature.not_run, "");
    EXPECT_GT(signature.ops, 0);
    EXPECT_EQ(signature.verified_ops, signature.ops);
    std::set<std::string> stages;
    for (const StageAgreement& stage : signature.stages) {
      if (stage.stage.starts_with("rotated_")) {
        EXPECT_TRUE(stage.linear);
        EXPECT_LE(stage.worst, 1e-6) << stage.stage;
      }
      stages.insert(stage.stage);
    }
    EXPECT_THAT(stages, IsSupersetOf({"embedding", "rotated_input_norm",
                                      "rotated_attention", "rotated_mlp_norm",
                                      "rotated_mlp_inner", "mlp_output"}));
    EXPECT_EQ(stages.contains("rotated_final_norm"), stages.contains("head"));
  }
}

INSTANTIATE_TEST_SUITE_P(All, RotatedFile,
                         ::testing::Values("tiny_hf_hadamard.tflite",
                                           "tiny_hf_hadamard_q4.tflite"));

}  // namespace
}  // namespace verify_tflite
