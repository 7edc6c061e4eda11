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

TEST(FillCausalMaskTest, Float16) {
  std::vector<uint16_t> mask(3, 9);
  FillCausalMask(std::span<uint16_t>(mask), 3, 0);
  // Sign 1, exponent 15, fraction 0.3984375: -1.3984375 x 2^15.
  EXPECT_THAT(mask, ElementsAre(0, 0xF998, 0xF998));
}

TEST(FillBatchTest, EveryRowTheSame) {
  std::vector<int32_t> input(3, 9);
  FillBatch(input, 5);
  EXPECT_THAT(input, ElementsAre(5, 5, 5));
}

TEST(FillParamsTest, BeginAndEndWithoutPads) {
  std::vector<int32_t> input(7, 9);
  FillParams(input, 5, 10);
  EXPECT_THAT(input, ElementsAre(5, 15, 15, 0, 0, 0, 0));
  std::vector<int32_t> shorter(2, 9);
  FillParams(shorter, 1, 2);
  EXPECT_THAT(shorter, ElementsAre(1, 3));
  FillParams({}, 1, 2);
}

TEST(FillWindowMaskTest, TheLastPositionsOnly) {
  std::vector<uint8_t> mask(3 * 5, 9);
  FillWindowMask(std::span<uint8_t>(mask), 5, 2, 1);
  EXPECT_THAT(mask, ElementsAre(1, 1, 0, 0, 0,  //
                                0, 1, 1, 0, 0,  //
                                0, 0, 1, 1, 0));
}

TEST(FillRingPrefillMaskTest, NothingBeforeTheFirstChunk) {
  std::vector<uint8_t> mask(3 * (4 + 3), 9);
  FillRingPrefillMask(std::span<uint8_t>(mask), 3, 4, 2, 0);
  EXPECT_THAT(mask, ElementsAre(0, 0, 0, 0, 1, 0, 0,  //
                                0, 0, 0, 0, 1, 1, 0,  //
                                0, 0, 0, 0, 0, 1, 1));
}

TEST(FillRingPrefillMaskTest, SlotsHoldTheLatestPositions) {
  // Before position 6, slots 0 to 3 hold positions 4, 5, 2, 3.
  std::vector<uint8_t> mask(2 * (4 + 2), 9);
  FillRingPrefillMask(std::span<uint8_t>(mask), 2, 4, 4, 6);
  EXPECT_THAT(mask, ElementsAre(1, 1, 0, 1, 1, 0,  // 3, 4, 5, 6
                                1, 1, 0, 0, 1, 1));
}

TEST(FillRingDecodeMaskTest, TheTokenIsInItsSlot) {
  std::vector<uint8_t> mask(4, 9);
  FillRingDecodeMask(std::span<uint8_t>(mask), 4, 3, 1);
  EXPECT_THAT(mask, ElementsAre(1, 1, 0, 0));
  // Slots hold 4, 5, 6, 3.
  FillRingDecodeMask(std::span<uint8_t>(mask), 4, 3, 6);
  EXPECT_THAT(mask, ElementsAre(1, 1, 1, 0));
}

TEST(FillTokensTest, PadsAreTheTokenGiven) {
  std::vector<int32_t> input(4, 9);
  FillTokens(input, std::vector<int32_t>{5, 6}, 7);
  EXPECT_THAT(input, ElementsAre(5, 6, 7, 7));
}

TEST(FillRepeatedPositionsTest, PadsHaveTheLastTokensPosition) {
  std::vector<int32_t> input(5, 9);
  FillRepeatedPositions(input, 10, 3);
  EXPECT_THAT(input, ElementsAre(10, 11, 12, 12, 12));
  FillRepeatedPositions(input, 10, 5);
  EXPECT_THAT(input, ElementsAre(10, 11, 12, 13, 14));
}

}  // namespace
}  // namespace verify_tflite
