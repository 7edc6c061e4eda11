#include "result/model_info.h"

#include <gtest/gtest.h>

namespace verify_tflite {
namespace {

using Scales = WeightGroup::Scales;
using Use = WeightGroup::Use;

WeightGroup Group(std::string type, int64_t elements,
                  Scales scales = Scales::kNone, Use use = Use::kPlain,
                  int64_t block_size = 0) {
  return {.type = std::move(type),
          .scales = scales,
          .block_size = block_size,
          .use = use,
          .bytes = 1,
          .elements = elements};
}

TEST(SumOfKinds, AddsUpEachKindAndPutsTheLargestFirst) {
  const auto sums =
      SumOfKinds({Group("FLOAT32", 5), Group("INT8", 4, Scales::kPerChannel),
                  Group("INT8", 3, Scales::kPerChannel), Group("INT8", 1)});
  ASSERT_EQ(sums.size(), 3u);
  EXPECT_EQ(sums[0].scales, Scales::kPerChannel);
  EXPECT_EQ(sums[0].elements, 7);
  EXPECT_EQ(sums[0].bytes, 2);
  EXPECT_EQ(sums[1].type, "FLOAT32");
  EXPECT_EQ(sums[2].elements, 1);
}

TEST(RecipeOfTest, TheCoarsestRelevantTypeDecides) {
  EXPECT_EQ(RecipeOf({Group("FLOAT32", 500)}), Recipe::kFloat32);
  EXPECT_EQ(RecipeOf({Group("FLOAT16", 125), Group("FLOAT32", 2)}),
            Recipe::kFloat16);
  EXPECT_EQ(RecipeOf({Group("INT8", 130), Group("FLOAT32", 2)}), Recipe::kInt8);
}

WeightGroup Int8(int64_t elements, Use use) {
  return Group("INT8", elements, Scales::kPerChannel, use);
}

WeightGroup Int4(int64_t elements, Scales scales, Use use) {
  return Group("INT4", elements, scales, use, 32);
}

TEST(RecipeOfTest, WeightOnlyIsWhereNoProductTakesIntegers) {
  EXPECT_EQ(RecipeOf({Int8(100, Use::kDequantized), Int8(30, Use::kLookup)}),
            Recipe::kInt8WeightOnly);
  EXPECT_EQ(RecipeOf({Int8(100, Use::kDynamic), Int8(30, Use::kLookup)}),
            Recipe::kInt8);
  EXPECT_EQ(RecipeOf({Int8(100, Use::kStatic)}), Recipe::kInt8Static);
  // A tenth of the products is dynamic.
  EXPECT_EQ(RecipeOf({Int8(90, Use::kDequantized), Int8(10, Use::kDynamic)}),
            Recipe::kInt8);
  EXPECT_EQ(RecipeOf({Int8(30, Use::kLookup), Group("FLOAT32", 100)}),
            Recipe::kInt8WeightOnly);
}

TEST(RecipeOfTest, Int4IsInBlocksOrPerChannel) {
  EXPECT_EQ(RecipeOf({Int4(100, Scales::kPerBlock, Use::kDynamic)}),
            Recipe::kInt4);
  EXPECT_EQ(RecipeOf({Int4(100, Scales::kPerChannel, Use::kDynamic)}),
            Recipe::kInt4PerChannel);
  EXPECT_EQ(RecipeOf({Int4(100, Scales::kPerTensor, Use::kDequantized)}),
            Recipe::kInt4PerChannel);
  EXPECT_EQ(RecipeOf({Group("INT2", 100, Scales::kPerChannel, Use::kDynamic)}),
            Recipe::kInt4PerChannel);
  // int8 with an int4 embedding; int4 in blocks with a coarser embedding.
  EXPECT_EQ(RecipeOf({Int8(100, Use::kDynamic),
                      Int4(26, Scales::kPerChannel, Use::kLookup)}),
            Recipe::kInt4);
  EXPECT_EQ(RecipeOf({Int4(100, Scales::kPerBlock, Use::kDynamic),
                      Int4(26, Scales::kPerChannel, Use::kLookup)}),
            Recipe::kInt4);
}

TEST(RecipeOfTest, SmallConstantsDoNotDecide) {
  EXPECT_EQ(RecipeOf({Group("FLOAT32", 125 << 20), Group("INT8", 100000),
                      Group("INT4", 2000), Group("element type 99", 0)}),
            Recipe::kFloat32);
  EXPECT_EQ(RecipeOf({}), Recipe::kFloat32);
}

TEST(DescribeWeightsTest, NamesTheScalesAndTheUse) {
  const auto describe = [](const WeightGroup& group) {
    return DescribeWeights({group, Group("FLOAT32", 1)});
  };
  EXPECT_EQ(describe(Group("FLOAT32", 100)), "float32");
  EXPECT_EQ(describe(Group("FLOAT16", 100, Scales::kNone, Use::kDequantized)),
            "float16");
  EXPECT_EQ(describe(Group("INT8", 100, Scales::kPerChannel, Use::kDynamic)),
            "int8 per channel, dynamic");
  EXPECT_EQ(describe(Group("INT8", 100, Scales::kPerTensor, Use::kDequantized)),
            "int8 per tensor, weight-only");
  EXPECT_EQ(describe(Group("INT4", 100, Scales::kPerBlock, Use::kDynamic, 32)),
            "int4 in blocks of 32, dynamic");
  EXPECT_EQ(describe(Group("INT8", 100, Scales::kPerChannel, Use::kStatic)),
            "int8 per channel, static");
  EXPECT_EQ(DescribeWeights({}), "no weights");
}

TEST(DescribeWeightsTest, SharesOfWhatIsMixed) {
  EXPECT_EQ(
      DescribeWeights({Group("INT8", 80, Scales::kPerChannel, Use::kDynamic),
                       Group("INT4", 19, Scales::kPerChannel, Use::kLookup),
                       Group("FLOAT32", 1)}),
      "mixed: 80 % int8 per channel, dynamic; 19 % int4 per channel, "
      "lookup");
}

TEST(DescribeWeightsTest, EmbeddingsStoredAsOtherWeightsAreNoMixture) {
  EXPECT_EQ(
      DescribeWeights({Group("INT8", 50, Scales::kPerChannel, Use::kLookup),
                       Group("INT8", 50, Scales::kPerChannel, Use::kDynamic)}),
      "int8 per channel, dynamic");
}

TEST(DescribeWeightsTest, TablesAreNoWeights) {
  EXPECT_EQ(
      DescribeWeights({Group("FLOAT32", 90, Scales::kNone, Use::kTable),
                       Group("INT8", 10, Scales::kPerChannel, Use::kDynamic)}),
      "int8 per channel, dynamic");
}

}  // namespace
}  // namespace verify_tflite
