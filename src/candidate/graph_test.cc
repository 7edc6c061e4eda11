#include "candidate/graph.h"

#include <gtest/gtest.h>

namespace verify_tflite {
namespace {

TEST(RecipeOfTest, TheCoarsestRelevantTypeDecides) {
  const int64_t mega = 1 << 20;
  EXPECT_EQ(RecipeOf({{kLiteRtElementTypeFloat32, 500 * mega}}),
            Recipe::kFloat32);
  EXPECT_EQ(RecipeOf({{kLiteRtElementTypeFloat16, 250 * mega},
                      {kLiteRtElementTypeFloat32, 7 * mega}}),
            Recipe::kFloat16);
  EXPECT_EQ(RecipeOf({{kLiteRtElementTypeInt8, 130 * mega},
                      {kLiteRtElementTypeFloat32, 7 * mega}}),
            Recipe::kInt8);
  // int8 with an int4 embedding.
  EXPECT_EQ(RecipeOf({{kLiteRtElementTypeInt8, 100 * mega},
                      {kLiteRtElementTypeInt4, 13 * mega}}),
            Recipe::kInt4);
}

TEST(RecipeOfTest, SmallConstantsDoNotDecide) {
  EXPECT_EQ(RecipeOf({{kLiteRtElementTypeFloat32, 500 << 20},
                      {kLiteRtElementTypeInt8, 100000},
                      {kLiteRtElementTypeInt4, 1000},
                      {static_cast<LiteRtElementType>(99), 1 << 30}}),
            Recipe::kFloat32);
  EXPECT_EQ(RecipeOf({}), Recipe::kFloat32);
}

}  // namespace
}  // namespace verify_tflite
