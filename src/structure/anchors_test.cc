#include "structure/anchors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Tensor i + 1 is what operator i computes; 0 is the signature's input.
tflite::Graph Chain(std::vector<std::vector<int32_t>> inputs,
                    std::vector<int32_t> outputs) {
  tflite::Graph graph;
  graph.tensors.resize(inputs.size() + 1);
  for (size_t i = 0; i < inputs.size(); ++i) {
    tflite::Op op;
    op.inputs = inputs[i];
    op.outputs = {static_cast<int32_t>(i + 1)};
    graph.tensors[i + 1].producer = static_cast<int32_t>(i);
    graph.ops.push_back(op);
  }
  for (const int32_t tensor : outputs) graph.outputs.emplace_back("", tensor);
  return graph;
}

TEST(Coverage, ReachesBackToTheNextTensorThatWasCompared) {
  const tflite::Graph graph = Chain({{0}, {1}, {2}, {3}}, {4});
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
  const tflite::Graph graph = Chain({{0}, {1}, {1}}, {2});
  const std::vector<int32_t> agreeing = {2};
  const Coverage coverage = FindCoverage(graph, agreeing, {});
  EXPECT_THAT(coverage.needed, ElementsAre(0, 1));
  EXPECT_THAT(coverage.verified, ElementsAre(0, 1));
}

TEST(Coverage, AnOutputThatWasNotComparedLeavesItsOperators) {
  const tflite::Graph graph = Chain({{0}, {1}, {1}}, {2, 3});
  const std::vector<int32_t> agreeing = {2};
  EXPECT_THAT(FindCoverage(graph, agreeing, {}).verified, ElementsAre(0, 1));
}

// The wrong order of operators in a file must not make it go round for ever.
TEST(Coverage, EndsOnACycle) {
  const tflite::Graph graph = Chain({{2}, {1}}, {2});
  const std::vector<int32_t> agreeing = {2};
  EXPECT_EQ(FindCoverage(graph, agreeing, {}).verified.size(), 2u);
}

// A fused product is q, k and v; it is not verified while one of them differs.
TEST(Coverage, ATensorThatDiffersInPartIsNotVerified) {
  const tflite::Graph graph = Chain({{0}, {1}}, {2});
  const std::vector<int32_t> agreeing = {1, 2};
  const std::vector<int32_t> differing = {1};
  EXPECT_THAT(FindCoverage(graph, agreeing, differing).verified,
              ElementsAre(1));
}

}  // namespace
}  // namespace verify_tflite
