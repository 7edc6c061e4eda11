#include "structure/thresholds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <utility>

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;
using ::testing::SizeIs;

constexpr int32_t kRelu = tflite::kOpRelu;
constexpr int32_t kMinimum = 57, kMaximum = 55, kGreater = 61, kSelect = 123,
                  kGelu = 150;

// A file of one signature: inputs "tokens" and "mask", then what is added.
class Model {
 public:
  Model() {
    file_.graphs.resize(1);
    AddInput("tokens");
    AddInput("mask");
  }

  int32_t tokens() const { return 0; }
  int32_t mask() const { return 1; }
  tflite::File& file() { return file_; }
  tflite::Graph& graph() { return file_.graphs[0]; }

  int32_t Constant(float value) {
    const auto bytes =
        std::as_bytes(std::span(&values_.emplace_back(value), 1));
    tflite::Constant& constant = file_.constants.emplace_back();
    constant.type = ElementType::kFloat32;
    constant.shape = {1};
    constant.data = bytes;
    const int32_t tensor = Tensor(ElementType::kFloat32);
    graph().tensors.back().constant = std::ssize(file_.constants) - 1;
    return tensor;
  }

  int32_t Op(int32_t code, std::vector<int32_t> inputs,
             ElementType type = ElementType::kFloat32) {
    const int32_t output = Tensor(type);
    tflite::Op op;
    op.code = code;
    op.inputs = std::move(inputs);
    op.outputs = {output};
    graph().ops.push_back(op);
    return output;
  }

  std::vector<Threshold> Find() {
    std::vector<int32_t> all;
    for (size_t i = 0; i < graph().ops.size(); ++i) {
      all.push_back(static_cast<int32_t>(i));
    }
    return FindThresholds(file_, graph(), all);
  }

 private:
  int32_t Tensor(ElementType type) {
    tflite::Tensor tensor;
    tensor.type = type;
    graph().tensors.push_back(tensor);
    return std::ssize(graph().tensors) - 1;
  }

  void AddInput(const char* name) {
    const int32_t tensor = Tensor(ElementType::kFloat32);
    graph().input_tensors.push_back(tensor);
    graph().inputs.emplace_back(name, tensor);
  }

  tflite::File file_;
  std::deque<float> values_;
};

TEST(Thresholds, AClampIsFoundWithItsThreshold) {
  Model model;
  const int32_t x = model.Op(kGelu, {model.tokens()});
  model.Op(kMinimum, {x, model.Constant(50)});
  const std::vector<Threshold> found = model.Find();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].op, 1);
  EXPECT_THAT(found[0].at, Optional(50));
  EXPECT_FALSE(found[0].is_half_range());
  EXPECT_THAT(FindThresholds(model.file(), model.graph(), {}), IsEmpty());
}

TEST(Thresholds, WhereFloat16EndsAndWhereFloat32Does) {
  Model model;
  model.Op(kMaximum, {model.tokens(), model.Constant(-65504)});
  model.Op(kMaximum, {model.tokens(), model.Constant(-3.4028235e38f)});
  const std::vector<Threshold> found = model.Find();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_TRUE(found[0].is_half_range());
}

TEST(Thresholds, OfTwoTheNearest) {
  Model model;
  const int32_t low = model.Constant(-65504);
  model.Op(168, {low, model.tokens(), model.Constant(50)});
  ASSERT_THAT(model.Find(), SizeIs(1));
  EXPECT_THAT(model.Find()[0].at, Optional(50));
}

TEST(Thresholds, BetweenTwoValuesThereIsNoNumber) {
  Model model;
  model.Op(kMinimum, {model.tokens(), model.Op(kGelu, {model.tokens()})});
  ASSERT_THAT(model.Find(), SizeIs(1));
  EXPECT_EQ(model.Find()[0].at, std::nullopt);
}

TEST(Thresholds, MasksMayBeComparedValuesNot) {
  Model model;
  const int32_t limit = model.Constant(0.5);
  const int32_t sees = model.Op(kGreater, {model.mask(), limit});
  model.Op(kSelect, {sees, model.tokens(), limit});
  EXPECT_THAT(model.Find(), IsEmpty());
  const int32_t large = model.Op(kGreater, {model.tokens(), limit});
  model.Op(kSelect, {large, model.tokens(), limit});
  ASSERT_THAT(model.Find(), SizeIs(1));
  EXPECT_EQ(model.Find()[0].op, 2);
  EXPECT_THAT(model.Find()[0].at, Optional(0.5));
}

TEST(Thresholds, FusedActivationsAndRounding) {
  Model model;
  model.Op(tflite::kOpAdd, {model.tokens(), model.tokens()});
  model.graph().ops.back().activation = 3;  // RELU6
  model.Op(tflite::kOpCast, {model.tokens()}, ElementType::kUnknown);
  model.Op(tflite::kOpCast, {model.tokens()});
  EXPECT_THAT(model.Find(), SizeIs(2));
}

TEST(Thresholds, OfAnActivationThatBendsAt0) {
  Model model;
  model.Op(kRelu, {model.tokens()});
  model.Op(tflite::kOpAdd, {model.tokens(), model.tokens()});
  model.graph().ops.back().activation = 1;  // RELU
  model.Op(kMinimum, {model.tokens(), model.Constant(-1e-6f)});
  model.Op(kMinimum, {model.tokens(), model.Constant(0.1f)});
  model.Op(kMinimum, {model.tokens(), model.Op(kRelu, {model.tokens()})});
  const auto left = [&](Activation activation) {
    std::vector<Threshold> found = model.Find();
    std::erase_if(found, [&](const Threshold& threshold) {
      return IsOfActivation(threshold, activation);
    });
    return found.size();
  };
  EXPECT_EQ(left(Activation::kSilu), 6);
  EXPECT_EQ(left(Activation::kRelu2), 3);
  EXPECT_EQ(left(Activation::kXielu), 2);
}

// The least size of a stream, the end of the per-layer table, what makes layers
// sparse.
TEST(Thresholds, OfAModelOfSeveralStreams) {
  ModelConfig plain;
  plain.layers.resize(2);
  ModelConfig streams = plain;
  streams.num_streams = 4;
  streams.per_layer_vocab_size = 900;
  ModelConfig sparse = plain;
  sparse.layers[1].sparsity = 0.95;
  const auto is_of = [](const ModelConfig& config) {
    std::vector<bool> all;
    for (const double at : {1e-5, double{1e-5f}, 900.0, 0.0, 2e-5, 899.0}) {
      all.push_back(IsOfModel({.op = 0, .at = at}, config));
    }
    all.push_back(IsOfModel({.op = 0, .at = {}}, config));
    return all;
  };
  EXPECT_THAT(is_of(plain),
              ElementsAre(false, false, false, false, false, false, false));
  EXPECT_THAT(is_of(streams),
              ElementsAre(true, true, true, true, false, false, false));
  EXPECT_THAT(is_of(sparse),
              ElementsAre(false, false, false, true, false, false, false));
}

TEST(Thresholds, InsideComposites) {
  Model model;
  model.Op(tflite::kOpStablehloComposite, {model.tokens(), model.mask()});
  model.graph().ops.back().body = 1;
  Model body;
  body.Op(kMinimum, {body.mask(), body.Constant(50)});
  model.file().constants = body.file().constants;
  model.file().graphs.push_back(body.graph());
  EXPECT_THAT(model.Find(), IsEmpty());  // of the mask
  model.graph().ops.back().inputs = {model.tokens(), model.tokens()};
  ASSERT_THAT(model.Find(), SizeIs(1));
  EXPECT_EQ(model.Find()[0].op, 0);
  EXPECT_THAT(model.Find()[0].at, Optional(50));
}

TEST(Thresholds, CompositesInThemselves) {
  Model model;
  model.Op(tflite::kOpStablehloComposite, {model.tokens()});
  model.graph().ops.back().body = 0;
  EXPECT_THAT(model.Find(), SizeIs(1));
}

}  // namespace
}  // namespace verify_tflite
