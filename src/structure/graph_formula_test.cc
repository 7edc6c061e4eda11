#include "structure/graph_formula.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace verify_tflite {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

// A graph of operators one after the other, built by hand.
class Graph {
 public:
  explicit Graph(tflite::File& file) : file_(file) {}

  int32_t Tensor(std::vector<int32_t> shape, double scale = 0,
                 int64_t zero_point = 0) {
    tflite::Tensor tensor;
    tensor.shape = std::move(shape);
    tensor.type = scale > 0 ? ElementType::kInt8 : ElementType::kFloat32;
    if (scale > 0) {
      tensor.scale = TensorScale{static_cast<float>(scale), zero_point};
    }
    graph.tensors.push_back(tensor);
    return static_cast<int32_t>(graph.tensors.size()) - 1;
  }

  // INT32 where `integers`, else FLOAT32.
  template <typename T>
  int32_t Constant(std::vector<T> values) {
    std::vector<T>& kept = Kept<T>().emplace_back(std::move(values));
    tflite::Constant constant;
    constant.type = std::is_same_v<T, float> ? ElementType::kFloat32
                                             : ElementType::kUnknown;
    constant.shape = {std::ssize(kept)};
    constant.data = std::as_bytes(std::span(kept));
    file_.constants.push_back(constant);
    const int32_t tensor = Tensor({static_cast<int32_t>(kept.size())});
    graph.tensors.back().constant =
        static_cast<int32_t>(file_.constants.size()) - 1;
    return tensor;
  }

  tflite::Op& Op(int32_t code, std::vector<int32_t> inputs, int32_t output) {
    tflite::Op op;
    op.code = code;
    op.inputs = std::move(inputs);
    op.outputs = {output};
    graph.ops.push_back(op);
    graph.tensors[static_cast<size_t>(output)].producer =
        static_cast<int32_t>(graph.ops.size()) - 1;
    return graph.ops.back();
  }

  tflite::Graph graph;

 private:
  template <typename T>
  static std::deque<std::vector<T>>& Kept() {
    static std::deque<std::vector<T>> kept;
    return kept;
  }
  tflite::File& file_;
};

class GraphFormulaTest : public testing::Test {
 protected:
  std::optional<Numbers> Evaluate(int32_t tensor) {
    return GraphFormula(file_, g_.graph)
        .Evaluate(tensor, [&](int32_t index) -> const std::vector<float>* {
          const auto known = known_.find(index);
          return known == known_.end() ? nullptr : &known->second;
        });
  }

  tflite::File file_;
  Graph g_{file_};
  std::map<int32_t, std::vector<float>> known_;
};

TEST_F(GraphFormulaTest, EveryOperatorThatRoundsMayTakeAStep) {
  const int32_t a = g_.Tensor({3}, 0.1), b = g_.Tensor({3}, 0.2);
  const int32_t product = g_.Tensor({3}, 0.5), sum = g_.Tensor({3}, 0.25);
  g_.Op(tflite::kOpMul, {a, b}, product);
  g_.Op(tflite::kOpAdd, {product, a}, sum);
  known_[a] = {1, 2, -3};
  known_[b] = {4, 5, 6};
  const auto found = Evaluate(sum);
  ASSERT_TRUE(found.has_value());
  EXPECT_THAT(found->exact, ElementsAre(5, 12, -21));
  EXPECT_THAT(found->clipped, ElementsAre(5, 12, -21));
  EXPECT_THAT(found->error, ElementsAre(0.75, 0.75, 0.75));
}

TEST_F(GraphFormulaTest, ErrorsAreCarriedOn) {
  const int32_t a = g_.Tensor({1}, 0.1), rounded = g_.Tensor({1}, 0.5);
  const int32_t product = g_.Tensor({1}, 0.25);
  g_.Op(tflite::kOpQuantize, {a}, rounded);
  g_.Op(tflite::kOpMul, {rounded, a}, product);
  known_[a] = {4};
  const auto found = Evaluate(product);
  ASSERT_TRUE(found.has_value());
  EXPECT_THAT(found->error, ElementsAre(0.5 * 4 + 0.25));
}

TEST_F(GraphFormulaTest, RangesCutOff) {
  const int32_t a = g_.Tensor({2}, 1), narrow = g_.Tensor({2}, 0.5, -28);
  const int32_t sum = g_.Tensor({2}, 1);
  g_.Op(tflite::kOpQuantize, {a}, narrow);
  g_.Op(tflite::kOpAdd, {narrow, a}, sum);
  known_[a] = {100, -100};
  const auto found = Evaluate(sum);
  ASSERT_TRUE(found.has_value());
  EXPECT_THAT(found->exact, ElementsAre(200, -200));
  // 0.5 (127 + 28) and 0.5 (-128 + 28); the sum itself holds -128 to 127.
  EXPECT_THAT(found->clipped, ElementsAre(127, -128));
  EXPECT_THAT(Evaluate(narrow)->clipped, ElementsAre(77.5, -50));
}

TEST_F(GraphFormulaTest, MovesNumbersAsTheOperatorsDo) {
  const int32_t a = g_.Tensor({2, 3}, 1);
  const int32_t turned = g_.Tensor({3, 2}, 1), part = g_.Tensor({2, 2}, 1);
  const int32_t both = g_.Tensor({2, 4}, 1), mean = g_.Tensor({2, 1}, 1);
  g_.Op(tflite::kOpTranspose, {a, g_.Constant<int32_t>({1, 0})}, turned);
  g_.Op(tflite::kOpSlice,
        {turned, g_.Constant<int32_t>({1, 0}), g_.Constant<int32_t>({2, 2})},
        part);
  g_.Op(tflite::kOpConcatenation, {part, part}, both);
  g_.Op(tflite::kOpMean, {both, g_.Constant<int32_t>({1})}, mean);
  known_[a] = {1, 2, 3, 4, 5, 6};
  EXPECT_THAT(Evaluate(turned)->exact, ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(Evaluate(part)->exact, ElementsAre(2, 5, 3, 6));
  EXPECT_THAT(Evaluate(both)->exact, ElementsAre(2, 5, 2, 5, 3, 6, 3, 6));
  EXPECT_THAT(Evaluate(mean)->exact, ElementsAre(3.5, 4.5));
  EXPECT_THAT(Evaluate(both)->error, ElementsAre(0, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(Evaluate(mean)->error, ElementsAre(1, 1));
}

TEST_F(GraphFormulaTest, OfRootsAndLogistic) {
  const int32_t a = g_.Tensor({2}), root = g_.Tensor({2}, 0.01);
  const int32_t logistic = g_.Tensor({2}, 1.0 / 256, -128);
  g_.Op(tflite::kOpRsqrt, {a}, root);
  g_.Op(tflite::kOpLogistic, {a}, logistic);
  known_[a] = {4, 0.25};
  EXPECT_THAT(Evaluate(root)->exact, ElementsAre(0.5, 2));
  EXPECT_THAT(Evaluate(logistic)->exact,
              Pointwise(DoubleNear(1e-9), {0.98201379, 0.56217650}));
}

// 1 / sqrt(x) is above its table's straight lines' middle by 2048 f''(x).
TEST_F(GraphFormulaTest, KernelsOf16BitsHaveTables) {
  const int32_t a = g_.Tensor({1}, 1), root = g_.Tensor({1}, 1e-6);
  g_.graph.tensors[0].type = ElementType::kInt16;
  g_.graph.tensors[1].type = ElementType::kInt16;
  g_.Op(tflite::kOpRsqrt, {a}, root);
  known_[a] = {1024 + 64};
  const auto found = Evaluate(root);
  ASSERT_TRUE(found.has_value());
  const double bent = 2048 * 0.75 * std::pow(1088, -2.5);
  EXPECT_GT(found->error[0], bent);
  EXPECT_LT(found->error[0], 2 * bent + 3e-6);
}

// Entries that the output cannot hold are cut off, and so are the lines to
// them.
TEST_F(GraphFormulaTest, TablesEndWhereTheOutputDoes) {
  const int32_t a = g_.Tensor({1}, 1), root = g_.Tensor({1}, 1e-6);
  g_.graph.tensors[0].type = ElementType::kInt16;
  g_.graph.tensors[1].type = ElementType::kInt16;
  g_.Op(tflite::kOpRsqrt, {a}, root);
  // 1 / sqrt(896) is beyond 0.032767, 1 / sqrt(1024) is not.
  known_[a] = {960};
  const auto found = Evaluate(root);
  ASSERT_TRUE(found.has_value());
  const double line = (0.032767 + 1 / std::sqrt(1024.0)) / 2;
  EXPECT_GT(found->error[0], std::fabs(line - 1 / std::sqrt(960.0)));
}

TEST_F(GraphFormulaTest, ARootOfWhatMayBeNegativeMayBeAnything) {
  const int32_t a = g_.Tensor({1}, 1), rounded = g_.Tensor({1}, 1);
  const int32_t root = g_.Tensor({1}, 0.1);
  g_.Op(tflite::kOpQuantize, {a}, rounded);
  g_.Op(tflite::kOpRsqrt, {rounded}, root);
  known_[a] = {0.5};
  const auto found = Evaluate(root);
  ASSERT_TRUE(found.has_value());
  EXPECT_THAT(found->error, Pointwise(DoubleNear(1e-5), {25.5}));
}

TEST_F(GraphFormulaTest, AProductIsRoundedOnceWhereItsInputIsKnown) {
  const int32_t a = g_.Tensor({1, 2}, 1), other = g_.Tensor({1, 2}, 1);
  const int32_t product = g_.Tensor({1, 2}, 0.5);
  const int32_t reshaped = g_.Tensor({2}, 0.5);
  g_.Op(tflite::kOpQuantize, {a}, other);
  g_.Op(tflite::kOpFullyConnected, {other, g_.Constant<float>({1, 1})},
        product);
  g_.Op(tflite::kOpReshape, {product}, reshaped);
  known_[a] = {1, 2};
  EXPECT_FALSE(Evaluate(reshaped).has_value());
  known_[other] = {1, 2};
  const auto found = Evaluate(reshaped);
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE(found->opaque);
  EXPECT_THAT(found->error, ElementsAre(0.5, 0.5));
}

TEST_F(GraphFormulaTest, DoesNotGuess) {
  constexpr int32_t kSoftmax = 25;
  const int32_t a = g_.Tensor({2}, 1), b = g_.Tensor({2}, 1);
  const int32_t c = g_.Tensor({2}, 1);
  g_.Op(kSoftmax, {a}, b);
  g_.Op(tflite::kOpAdd, {a, a}, c).activation = true;
  known_[a] = {1, 2};
  EXPECT_FALSE(Evaluate(b).has_value()) << "an operator that is not known";
  EXPECT_FALSE(Evaluate(c).has_value()) << "it applies an activation, too";
  EXPECT_FALSE(Evaluate(a).has_value()) << "an input";
}

TEST_F(GraphFormulaTest, ComputesWhatACompositeStandsFor) {
  Graph body(file_);
  const int32_t x = body.Tensor({2}, 1), square = body.Tensor({2}, 2);
  const int32_t result = body.Tensor({2}, 4);
  body.Op(tflite::kOpMul, {x, x}, square);
  body.Op(tflite::kOpAdd, {square, x}, result);
  body.graph.input_tensors = {x};
  body.graph.output_tensors = {result};
  file_.graphs.push_back(body.graph);
  const int32_t a = g_.Tensor({2}, 1), out = g_.Tensor({2}, 4);
  tflite::Op& op = g_.Op(tflite::kOpStablehloComposite, {a}, out);
  op.composite = "odml.square_plus";
  op.body = 0;
  known_[a] = {3, -2};
  const auto found = Evaluate(out);
  ASSERT_TRUE(found.has_value());
  EXPECT_FALSE(found->opaque);
  EXPECT_THAT(found->exact, ElementsAre(12, 2));
  EXPECT_THAT(found->error, ElementsAre(6, 6));
}

}  // namespace
}  // namespace verify_tflite
