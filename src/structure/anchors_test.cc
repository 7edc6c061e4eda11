#include "structure/anchors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "structure/recording.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Tensor i + 1 is what operator i computes; 0 is the signature's input.
AuditedGraph Chain(std::vector<std::vector<int32_t>> inputs,
                   std::vector<int32_t> outputs) {
  AuditedGraph graph;
  graph.tensors.resize(inputs.size() + 1);
  for (size_t i = 0; i < inputs.size(); ++i) {
    AuditedOp op;
    op.inputs = inputs[i];
    op.outputs = {static_cast<int32_t>(i + 1)};
    graph.tensors[i + 1].producer = static_cast<int32_t>(i);
    graph.ops.push_back(op);
  }
  for (const int32_t tensor : outputs) graph.outputs.emplace_back("", tensor);
  return graph;
}

TEST(Coverage, ReachesBackToTheNextTensorThatWasCompared) {
  const AuditedGraph graph = Chain({{0}, {1}, {2}, {3}}, {4});
  const std::vector<int32_t> agreeing = {4, 2};
  const Coverage all = FindCoverage(graph, agreeing, {});
  EXPECT_THAT(all.needed, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(all.verified, ElementsAre(0, 1, 2, 3));
  // What computes a tensor that differs is not verified, nor what only leads
  // to it; what is behind it is.
  const std::vector<int32_t> last = {4};
  const std::vector<int32_t> wrong = {2};
  EXPECT_THAT(FindCoverage(graph, last, wrong).verified, ElementsAre(2, 3));
  EXPECT_THAT(FindCoverage(graph, {}, wrong).verified, IsEmpty());
}

TEST(Coverage, OperatorsThatNothingDependsOnDoNotCount) {
  const AuditedGraph graph = Chain({{0}, {1}, {1}}, {2});
  const std::vector<int32_t> agreeing = {2};
  const Coverage coverage = FindCoverage(graph, agreeing, {});
  EXPECT_THAT(coverage.needed, ElementsAre(0, 1));
  EXPECT_THAT(coverage.verified, ElementsAre(0, 1));
}

TEST(Coverage, AnOutputThatWasNotComparedLeavesItsOperators) {
  const AuditedGraph graph = Chain({{0}, {1}, {1}}, {2, 3});
  const std::vector<int32_t> agreeing = {2};
  EXPECT_THAT(FindCoverage(graph, agreeing, {}).verified, ElementsAre(0, 1));
}

// The wrong order of operators in a file must not make it go round for ever.
TEST(Coverage, EndsOnACycle) {
  const AuditedGraph graph = Chain({{2}, {1}}, {2});
  const std::vector<int32_t> agreeing = {2};
  EXPECT_EQ(FindCoverage(graph, agreeing, {}).verified.size(), 2u);
}

TEST(RecordingPlan, GoesThroughEverySignatureToTheLastPosition) {
  ModelInfo info;
  info.kv_length = 256;
  info.prefills = {{.name = "prefill_64", .length = 64},
                   {.name = "prefill_8", .length = 8}};
  int64_t end = 0;
  int64_t longest = 0;
  int64_t shortest = 0;
  for (const RecordingStep& step : PlanRecording(info)) {
    if (step.text == 0) continue;
    EXPECT_EQ(step.begin, end);
    end = step.begin + step.count;
    if (step.prefill > 0) {
      EXPECT_EQ(step.count % step.prefill, 0);
    }
    longest += step.keep && step.prefill == 64;
    shortest += step.keep && step.prefill == 8;
  }
  EXPECT_EQ(end, 256);
  EXPECT_EQ(longest, 1);
  EXPECT_EQ(shortest, 1);
}

TEST(RecordingPlan, StaysWithinACacheThatIsTooShort) {
  ModelInfo info;
  info.prefills = {{.name = "prefill", .length = 64}};
  for (const int64_t length : {1, 64, 65, 129, 130, 4096}) {
    info.kv_length = length;
    for (const RecordingStep& step : PlanRecording(info)) {
      EXPECT_LE(step.begin + step.count, length);
    }
  }
}

}  // namespace
}  // namespace verify_tflite
