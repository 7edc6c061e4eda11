// A decoder of one layer, put together operator by operator.
#include "mapping/roles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr int32_t kWidth = 8, kRelu = tflite::kOpRelu;

class Decoder {
 public:
  Decoder() {
    graph_.signature = "decode";
    const int32_t ids = Tensor({1, 1});
    hidden_ = Op(tflite::kOpEmbeddingLookup, {ids, Constant({16, kWidth})});
  }

  int32_t Tensor(std::vector<int32_t> shape,
                 ElementType type = ElementType::kFloat32) {
    tflite::Tensor tensor;
    tensor.shape = std::move(shape);
    tensor.type = type;
    graph_.tensors.push_back(std::move(tensor));
    return static_cast<int32_t>(graph_.tensors.size()) - 1;
  }

  int32_t Constant(std::vector<int32_t> shape,
                   ElementType type = ElementType::kFloat32,
                   std::span<const std::byte> data = {}) {
    const int32_t tensor = Tensor(shape, type);
    tflite::Constant constant;
    constant.type = type;
    constant.data = data;
    constant.shape.assign(shape.begin(), shape.end());
    graph_.tensors[static_cast<size_t>(tensor)].constant =
        static_cast<int32_t>(file_.constants.size());
    file_.constants.push_back(std::move(constant));
    return tensor;
  }

  int32_t Op(int32_t code, std::vector<int32_t> inputs,
             std::vector<int32_t> shape = {1, 1, kWidth}) {
    const int32_t output = Tensor(std::move(shape));
    const auto index = static_cast<int32_t>(graph_.ops.size());
    for (const int32_t input : inputs) {
      auto& consumers = graph_.tensors[static_cast<size_t>(input)].consumers;
      if (consumers.empty() || consumers.back() != index) {
        consumers.push_back(index);
      }
    }
    graph_.tensors[static_cast<size_t>(output)].producer = index;
    tflite::Op op;
    op.code = code;
    op.inputs = std::move(inputs);
    op.outputs = {output};
    graph_.ops.push_back(std::move(op));
    return output;
  }

  int32_t Product(int32_t input, int32_t weight) {
    return Op(tflite::kOpFullyConnected, {input, weight});
  }
  int32_t Product(int32_t input) {
    return Product(input, Constant({kWidth, kWidth}));
  }

  // What follows on q, k and v; `k` is what is kept.
  Roles Finish(int32_t q, int32_t k, int32_t v) {
    graph_.outputs = {{"kv_cache_k_0", k}, {"kv_cache_v_0", v}};
    const int32_t scores = Op(tflite::kOpBatchMatmul, {q, k});
    const int32_t mixed = Op(tflite::kOpBatchMatmul, {scores, v});
    const int32_t after = Op(tflite::kOpAdd, {hidden_, Product(mixed)});
    const int32_t gate = Op(kRelu, {Product(after)});
    const int32_t down = Product(Op(tflite::kOpMul, {gate, Product(after)}));
    graph_.outputs.emplace_back("logits",
                                Product(Op(tflite::kOpAdd, {after, down})));
    file_.graphs = {graph_};
    return FindRoles(file_, 1, kWidth);
  }

  Roles FindWith(int64_t num_streams) {
    file_.graphs = {graph_};
    return FindRoles(file_, 1, kWidth, /*sub_norms=*/false, num_streams);
  }

  int32_t hidden() const { return hidden_; }
  void set_hidden(int32_t tensor) { hidden_ = tensor; }
  const tflite::Graph& graph() const { return graph_; }
  tflite::Graph& graph() { return graph_; }

 private:
  tflite::File file_;
  tflite::Graph graph_;
  int32_t hidden_ = -1;
};

const ProductUse& At(const Roles& roles, Part part) {
  for (const ProductUse& product : roles.signatures.at(0).products) {
    if (product.role.part == part) return product;
  }
  throw std::runtime_error("no such product");
}

TEST(Roles, ProductsOfALayer) {
  Decoder decoder;
  const int32_t in = decoder.hidden();
  const int32_t q = decoder.Product(in), k = decoder.Product(in);
  const Roles roles = decoder.Finish(q, k, decoder.Product(in));
  EXPECT_THAT(roles.not_understood, IsEmpty());
  const SignatureRoles& signature = roles.signatures.at(0);
  EXPECT_EQ(signature.not_understood, "");
  EXPECT_EQ(signature.embedding, in);
  EXPECT_THAT(signature.products, SizeIs(8));
  EXPECT_EQ(At(roles, Part::kK).input, in);
  EXPECT_EQ(At(roles, Part::kK).output, k);
  EXPECT_EQ(At(roles, Part::kK).bias, -1);
}

TEST(Roles, BiasOfAnOperatorOfItsOwn) {
  Decoder decoder;
  const int32_t in = decoder.hidden();
  const int32_t q = decoder.Product(in), k = decoder.Product(in);
  const int32_t bias = decoder.Constant({kWidth});
  const int32_t shifted = decoder.Op(tflite::kOpAdd, {bias, k});
  const Roles roles = decoder.Finish(q, shifted, decoder.Product(in));
  const ProductUse& product = At(roles, Part::kK);
  EXPECT_EQ(product.output, shifted);
  EXPECT_EQ(product.bias,
            decoder.graph().tensors[static_cast<size_t>(bias)].constant);
  EXPECT_EQ(At(roles, Part::kQ).output, q);
  EXPECT_EQ(At(roles, Part::kQ).bias, -1);
}

TEST(Roles, IntegersAsTheyAreOrDequantised) {
  Decoder decoder;
  const int32_t in = decoder.hidden();
  const std::vector<int32_t> square = {kWidth, kWidth};
  const int32_t direct = decoder.Constant(square, ElementType::kInt4);
  const int32_t turned =
      decoder.Op(tflite::kOpDequantize,
                 {decoder.Constant(square, ElementType::kInt8)}, square);
  const int32_t q = decoder.Product(in, direct);
  const int32_t k = decoder.Product(in, turned);
  const Roles roles = decoder.Finish(q, k, decoder.Product(in));
  EXPECT_TRUE(At(roles, Part::kQ).quantised_input);
  EXPECT_FALSE(At(roles, Part::kK).quantised_input);
  EXPECT_FALSE(At(roles, Part::kV).quantised_input);
}

// q and k of one product are normed on the way: only k's goes into the cache.
TEST(Roles, NormsOfHeadsOfAFusedProduct) {
  Decoder decoder;
  const int32_t fused = decoder.Product(decoder.hidden());
  const int32_t q_norm = decoder.Constant({kWidth});
  const int32_t k_norm = decoder.Constant({kWidth});
  const int32_t q = decoder.Op(tflite::kOpMul, {fused, q_norm});
  const int32_t k = decoder.Op(tflite::kOpMul, {fused, k_norm});
  const Roles roles = decoder.Finish(q, k, fused);
  const auto constant_of = [&](Part part) {
    for (const RoleUse& use : roles.uses) {
      if (use.role == WeightRole{part, 0, false}) return use.constant;
    }
    return -1;
  };
  const auto& tensors = decoder.graph().tensors;
  EXPECT_EQ(constant_of(Part::kQNorm),
            tensors[static_cast<size_t>(q_norm)].constant);
  EXPECT_EQ(constant_of(Part::kKNorm),
            tensors[static_cast<size_t>(k_norm)].constant);
}

// A layer of one of two residual streams, as Gemma 3n has them.
class TwoStreams : public Decoder {
 public:
  TwoStreams() {
    const int32_t other = Product(hidden());
    const int32_t streams = Together(hidden(), other);
    const int32_t predicted = Mixed(streams, Coefficients(streams, 4));
    const int32_t read = Scaled(One(predicted));
    const int32_t laurel = Scaled(Product(
        Op(tflite::kOpFullyConnected, {read, Constant({3, kWidth})}, {1, 1, 3}),
        Constant({kWidth, 3})));
    const int32_t q = Product(read), k = Product(read), v = Product(read);
    graph().outputs = {{"kv_cache_k_0", k}, {"kv_cache_v_0", v}};
    const int32_t scores = Op(tflite::kOpBatchMatmul, {q, k});
    const int32_t mixed = Op(tflite::kOpBatchMatmul, {scores, v});
    const int32_t sum = Op(tflite::kOpAdd, {One(predicted), Product(mixed)});
    const int32_t after = Op(tflite::kOpAdd, {sum, laurel});
    const int32_t normed = Scaled(after);
    const int32_t gate = Op(kRelu, {Product(normed)});
    const int32_t down = Product(Op(tflite::kOpMul, {gate, Product(normed)}));
    const int32_t changed = Op(tflite::kOpAdd, {after, down});
    const int32_t corrected = Op(tflite::kOpAdd,
                                 {predicted, Mixed(Together(changed, changed),
                                                   Coefficients(changed, 2))},
                                 kBoth);
    const int32_t last =
        Op(tflite::kOpAdd, {One(corrected), Product(One(corrected))});
    graph().outputs.emplace_back("logits", Product(Scaled(last)));
  }

 private:
  const std::vector<int32_t> kBoth = {2, 1, kWidth};

  int32_t Together(int32_t a, int32_t b) {
    return Op(tflite::kOpConcatenation, {a, b}, kBoth);
  }
  int32_t One(int32_t streams) { return Op(tflite::kOpSlice, {streams}); }
  int32_t Scaled(int32_t values) {
    return Op(tflite::kOpMul, {values, Constant({kWidth})});
  }
  int32_t Mixed(int32_t streams, int32_t coefficients) {
    return Op(tflite::kOpBatchMatmul, {streams, coefficients}, kBoth);
  }
  // A router's, `count` of them.
  int32_t Coefficients(int32_t streams, int32_t count) {
    const int32_t routed =
        Op(tflite::kOpFullyConnected,
           {Scaled(One(streams)), Constant({2, kWidth})}, {1, 1, 2});
    const int32_t bent = Op(tflite::kOpTanh, {routed}, {1, 1, 2});
    return Op(tflite::kOpFullyConnected, {bent, Constant({count, 2})},
              {1, 1, count});
  }
};

TEST(Roles, OfSeveralStreams) {
  const Roles roles = TwoStreams().FindWith(2);
  EXPECT_THAT(roles.not_understood, IsEmpty());
  EXPECT_THAT(roles.unknown, IsEmpty());
  std::vector<std::pair<Part, int32_t>> products;
  for (const ProductUse& product : roles.signatures.at(0).products) {
    products.emplace_back(product.role.part, product.role.layer);
  }
  using enum Part;
  EXPECT_THAT(
      products,
      ElementsAre(Pair(kStreamProjection, 0), Pair(kStreamRouter, 0),
                  Pair(kPrediction, 0), Pair(kLaurelLeft, 0),
                  Pair(kLaurelRight, 0), Pair(kQ, 0), Pair(kK, 0), Pair(kV, 0),
                  Pair(kO, 0), Pair(kGate, 0), Pair(kUp, 0), Pair(kDown, 0),
                  Pair(kStreamRouter, 0), Pair(kCorrection, 0),
                  Pair(kStreamOutput, 0), Pair(kHead, -1)));
  std::vector<Part> norms;
  for (const RoleUse& use : roles.uses) {
    if (IsNorm(use.role.part)) norms.push_back(use.role.part);
  }
  EXPECT_THAT(norms, ElementsAre(kStreamRouterNorm, kInputNorm, kLaurelNorm,
                                 kMlpNorm, kStreamRouterNorm, kFinalNorm));
  // Of a model of one stream this is no graph.
  EXPECT_FALSE(TwoStreams().FindWith(0).unknown.empty());
}

// Blocks of four of a row of eight.
class RotatedDecoder : public Decoder {
 public:
  int32_t Matrix(const std::vector<float>& values) {
    return Constant({kSize, kSize}, ElementType::kFloat32,
                    std::as_bytes(std::span(values)));
  }
  int32_t Rotate(int32_t input, int32_t matrix) {
    const int32_t shape = Tensor({2}, ElementType::kUnknown);
    const int32_t blocks = Op(tflite::kOpReshape, {input, shape}, {2, kSize});
    const int32_t rotated =
        Op(tflite::kOpFullyConnected, {blocks, matrix}, {2, kSize});
    return Op(tflite::kOpReshape, {rotated, shape});
  }

  static constexpr int32_t kSize = 4;
};

constexpr float kC = 0.5;
const std::vector<float> kHadamard = {kC, kC, kC,  kC,  kC, -kC, kC,  -kC,
                                      kC, kC, -kC, -kC, kC, -kC, -kC, kC};

TEST(Roles, AProductWithARotationIsPartOfTheNext) {
  RotatedDecoder decoder;
  const int32_t matrix = decoder.Matrix(kHadamard);
  const int32_t norm = decoder.Op(kRelu, {decoder.hidden()});
  const int32_t in = decoder.Rotate(norm, matrix);
  const int32_t q = decoder.Product(in), k = decoder.Product(in);
  const Roles roles = decoder.Finish(q, k, decoder.Product(norm));
  const SignatureRoles& signature = roles.signatures.at(0);
  EXPECT_EQ(signature.not_understood, "");
  EXPECT_THAT(roles.unknown, IsEmpty());
  ASSERT_THAT(signature.products, SizeIs(8));
  const int32_t constant =
      decoder.graph().tensors[static_cast<size_t>(matrix)].constant;
  ASSERT_TRUE(roles.rotations.contains(constant));
  EXPECT_EQ(roles.rotations.at(constant)->size(), 4);
  for (const ProductUse& product : signature.products) {
    const bool rotated =
        product.role.part == Part::kQ || product.role.part == Part::kK;
    EXPECT_EQ(product.rotation, rotated ? constant : -1);
    EXPECT_EQ(product.rotated, rotated ? in : -1);
    if (rotated || product.role.part == Part::kV) {
      EXPECT_EQ(product.input, norm);
    }
  }
  for (const RoleUse& use : roles.uses) {
    const bool rotated = use.role.part == Part::kQ || use.role.part == Part::kK;
    EXPECT_EQ(use.rotation, rotated ? constant : -1) << Describe(use.role);
  }
}

// The same by an operator that has no matrix.
TEST(Roles, AnOperatorThatRotates) {
  RotatedDecoder decoder;
  const int32_t norm = decoder.Op(kRelu, {decoder.hidden()});
  const int32_t in = decoder.Op(tflite::kOpCustom, {norm});
  decoder.graph().ops.back().rotates = 4;
  const int32_t q = decoder.Product(in), k = decoder.Product(in);
  const Roles roles = decoder.Finish(q, k, decoder.Product(norm));
  const SignatureRoles& signature = roles.signatures.at(0);
  ASSERT_THAT(signature.products, SizeIs(8));
  for (const ProductUse& product : signature.products) {
    const bool rotated =
        product.role.part == Part::kQ || product.role.part == Part::kK;
    ASSERT_EQ(product.rotation >= 0, rotated);
    if (!rotated) continue;
    EXPECT_EQ(product.input, norm);
    EXPECT_EQ(roles.rotations.at(product.rotation)->size(), 4);
    EXPECT_EQ(roles.rotations.at(product.rotation)->magnitude(), 0.5);
  }
}

// The lookup's rows are for nothing else than to be rotated back.
TEST(Roles, ALookupRotatedBack) {
  RotatedDecoder decoder;
  const int32_t matrix = decoder.Matrix(kHadamard);
  const int32_t back = decoder.Rotate(decoder.hidden(), matrix);
  decoder.set_hidden(back);
  const int32_t q = decoder.Product(back), k = decoder.Product(back);
  const Roles roles = decoder.Finish(q, k, decoder.Product(back));
  const SignatureRoles& signature = roles.signatures.at(0);
  EXPECT_EQ(signature.not_understood, "");
  EXPECT_EQ(signature.embedding, back);
  EXPECT_THAT(signature.products, SizeIs(8));
  for (const RoleUse& use : roles.uses) {
    EXPECT_EQ(use.rotation >= 0, use.role.part == Part::kEmbedding);
  }
}

// One sign is wrong: a product like any other.
TEST(Roles, IsNoRotation) {
  std::vector<float> values = kHadamard;
  values[5] = kC;
  RotatedDecoder decoder;
  const int32_t in = decoder.Rotate(decoder.hidden(), decoder.Matrix(values));
  const int32_t q = decoder.Product(in), k = decoder.Product(in);
  const Roles roles = decoder.Finish(q, k, decoder.Product(in));
  EXPECT_THAT(roles.unknown, SizeIs(1));
  for (const RoleUse& use : roles.uses) EXPECT_EQ(use.rotation, -1);
}

TEST(Roles, SaysWhyNot) {
  Decoder decoder;
  const int32_t in = decoder.hidden();
  const Roles roles =
      decoder.Finish(decoder.Product(in), in, decoder.Product(in));
  EXPECT_EQ(roles.signatures.at(0).not_understood,
            "0 products lead to kv_cache_k_0");
  EXPECT_THAT(roles.signatures.at(0).products, IsEmpty());
}

// Whatever is damaged in a file, nothing is done but an Error thrown.
TEST(FindRoles, RandomDamage) {
  const auto read = [](const std::string& content) {
    const auto file =
        tflite::File::Read(std::as_bytes(std::span(content)), "a.tflite");
    file.CheckConstants();
    return FindRoles(file, 1, 4);
  };
  const std::string good = ReadFile(TestDataPath("small.tflite"));
  EXPECT_GT(CountRefusedDamage(good, 20000, read), 5000);
}

}  // namespace
}  // namespace verify_tflite
