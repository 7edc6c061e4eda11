#include "candidate/signature_inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;

TEST(FillTokensTest, PadsWithTokenZero) {
  std::vector<int32_t> input(4, 9);
  FillTokens(input, std::vector<int32_t>{5, 6});
  EXPECT_THAT(input, ElementsAre(5, 6, 0, 0));
}

TEST(FillPositionsTest, ContinueThroughThePads) {
  std::vector<int32_t> input(4, 9);
  FillPositions(input, 7);
  EXPECT_THAT(input, ElementsAre(7, 8, 9, 10));
}

TEST(FillCausalMaskTest, EveryRowAttendsToItselfAndWhatIsBefore) {
  std::vector<uint8_t> mask(3 * 5, 9);
  FillCausalMask(std::span<uint8_t>(mask), 5, 1);
  EXPECT_THAT(mask, ElementsAre(1, 1, 0, 0, 0,  //
                                1, 1, 1, 0, 0,  //
                                1, 1, 1, 1, 0));
}

TEST(FillCausalMaskTest, FloatIsAddedToScores) {
  std::vector<float> mask(4, 9.0f);
  FillCausalMask(std::span<float>(mask), 4, 1);
  EXPECT_THAT(mask, ElementsAre(0.0f, 0.0f, kBlocked, kBlocked));
  EXPECT_LT(kBlocked, -1e38f);
  EXPECT_TRUE(std::isfinite(kBlocked - 1000.0f));
}

TEST(FillCausalMaskTest, LastPositionAttendsToAll) {
  std::vector<uint8_t> mask(4, 9);
  FillCausalMask(std::span<uint8_t>(mask), 4, 3);
  EXPECT_THAT(mask, ElementsAre(1, 1, 1, 1));
}

TEST(FillCausalMaskTest, ModelWithoutMask) {
  FillCausalMask(std::span<float>(), 4, 3);
}

}  // namespace
}  // namespace verify_tflite
