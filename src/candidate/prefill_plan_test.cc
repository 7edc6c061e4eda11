#include "candidate/prefill_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Length of signature and tokens used, for each chunk.
using Steps = std::vector<std::pair<int64_t, int64_t>>;

Steps StepsOf(const PrefillPlan& plan, const std::vector<int64_t>& lengths) {
  Steps steps;
  for (const PrefillChunk& chunk : plan.chunks) {
    steps.emplace_back(lengths.at(chunk.prefill), chunk.count);
  }
  return steps;
}

TEST(PlanPrefillTest, ChunksAsLiteRtLmDoes) {
  const std::vector<int64_t> lengths = {512, 128, 32};
  const auto steps = [&](int64_t count) {
    return StepsOf(PlanPrefill(lengths, 4096, 0, count), lengths);
  };
  EXPECT_EQ(steps(640), (Steps{{512, 512}, {128, 128}}));
  EXPECT_EQ(steps(768), (Steps{{512, 512}, {512, 256}}));
  EXPECT_EQ(steps(592), (Steps{{512, 512}, {128, 80}}));
  EXPECT_EQ(steps(1), (Steps{{32, 1}}));
  EXPECT_EQ(steps(512), (Steps{{512, 512}}));
}

TEST(PlanPrefillTest, NothingToPrefill) {
  const std::vector<int64_t> lengths = {8};
  const PrefillPlan plan = PlanPrefill(lengths, 16, 16, 0);
  EXPECT_TRUE(plan.chunks.empty());
  EXPECT_EQ(plan.decode_tail, 0);
}

TEST(PlanPrefillTest, NoPaddedChunkReachesPastTheCache) {
  const std::vector<int64_t> lengths = {64, 8};
  // 80 - 64 = 16 positions are left for 12 tokens: 64 would not fit.
  PrefillPlan plan = PlanPrefill(lengths, 80, 0, 76);
  EXPECT_EQ(StepsOf(plan, lengths), (Steps{{64, 64}, {8, 8}, {8, 4}}));
  EXPECT_EQ(plan.decode_tail, 0);
  plan = PlanPrefill(lengths, 79, 0, 76);
  EXPECT_EQ(StepsOf(plan, lengths), (Steps{{64, 64}, {8, 8}}));
  EXPECT_EQ(plan.decode_tail, 4);
  plan = PlanPrefill(lengths, 79, 74, 5);
  EXPECT_TRUE(plan.chunks.empty());
  EXPECT_EQ(plan.decode_tail, 5);
}

TEST(PlanPrefillTest, RefusesWhatDoesNotFit) {
  const std::vector<int64_t> lengths = {8};
  const auto message = [&](int64_t begin, int64_t count) -> std::string {
    try {
      PlanPrefill(lengths, 16, begin, count);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(message(0, 17), HasSubstr("KV cache of 16 positions"));
  EXPECT_THAT(message(10, 7), HasSubstr("7 tokens from position 10"));
  EXPECT_NE(message(17, 0), "");
  EXPECT_NE(message(-1, 1), "");
  EXPECT_NE(message(0, -1), "");
  EXPECT_NE(message(1, std::numeric_limits<int64_t>::max()), "");
  EXPECT_EQ(message(10, 6), "");
}

// The rule in words, on sets of lengths instead of an ordered scan.
PrefillPlan Oracle(const std::vector<int64_t>& lengths, int64_t kv_length,
                   int64_t begin, int64_t count) {
  PrefillPlan plan;
  while (count > 0) {
    std::vector<int64_t> fit, holds_all;
    for (const int64_t n : lengths) {
      if (begin + n <= kv_length) fit.push_back(n);
      if (begin + n <= kv_length && n >= count) holds_all.push_back(n);
    }
    if (fit.empty()) break;
    const int64_t length =
        holds_all.empty()
            ? *std::max_element(fit.begin(), fit.end())
            : *std::min_element(holds_all.begin(), holds_all.end());
    const auto index = static_cast<size_t>(
        std::find(lengths.begin(), lengths.end(), length) - lengths.begin());
    const int64_t used = std::min(length, count);
    plan.chunks.push_back({index, begin, used});
    begin += used;
    count -= used;
  }
  plan.decode_tail = count;
  return plan;
}

TEST(PlanPrefillTest, AgreesWithTheOracleAndKeepsItsPromises) {
  std::mt19937 random(1);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int round = 0; round < 20000; ++round) {
    std::set<int64_t, std::greater<>> chosen;
    for (int64_t i = pick(1, 4); i > 0; --i) chosen.insert(pick(1, 40));
    const std::vector<int64_t> lengths(chosen.begin(), chosen.end());
    const int64_t kv_length = pick(1, 120);
    const int64_t begin = pick(0, kv_length);
    const int64_t count = pick(0, kv_length - begin);
    const PrefillPlan plan = PlanPrefill(lengths, kv_length, begin, count);
    const PrefillPlan expected = Oracle(lengths, kv_length, begin, count);
    ASSERT_EQ(StepsOf(plan, lengths), StepsOf(expected, lengths));
    ASSERT_EQ(plan.decode_tail, expected.decode_tail);

    int64_t position = begin;
    for (const PrefillChunk& chunk : plan.chunks) {
      const int64_t length = lengths[chunk.prefill];
      ASSERT_EQ(chunk.begin, position);
      ASSERT_GT(chunk.count, 0);
      ASSERT_LE(chunk.count, length);
      ASSERT_LE(chunk.begin + length, kv_length);
      // Only the last one has pads.
      if (&chunk != &plan.chunks.back() || plan.decode_tail > 0) {
        ASSERT_EQ(chunk.count, length);
      }
      position += chunk.count;
    }
    ASSERT_EQ(position + plan.decode_tail, begin + count);
  }
}

}  // namespace
}  // namespace verify_tflite
