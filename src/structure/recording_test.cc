#include "structure/recording.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace verify_tflite {
namespace {

ModelInfo InfoOf(int64_t kv_length, std::vector<int64_t> lengths) {
  ModelInfo info;
  info.kv_length = kv_length;
  for (const int64_t length : lengths) {
    info.prefills.push_back({.name = "prefill", .length = length});
  }
  return info;
}

// Where a signature runs: its length (0: decode) and first position.
using Runs = std::vector<std::pair<int64_t, int64_t>>;

Runs RunsOf(const ModelInfo& info, int64_t positions) {
  Runs runs;
  int64_t end = 0;
  for (const RecordingStep& step : PlanRecording(info, positions)) {
    if (step.text == 0) continue;
    EXPECT_EQ(step.begin, end);
    EXPECT_GT(step.count, 0);
    end = step.begin + step.count;
    EXPECT_LE(end, positions);
    if (step.copies) {
      EXPECT_GT(step.begin, 0) << "there is nothing to copy";
    } else {
      EXPECT_EQ(step.count, step.prefill == 0 ? 1 : step.prefill);
      runs.emplace_back(step.prefill, step.begin);
    }
  }
  return runs;
}

TEST(RecordingPlan, GoesThroughEverySignatureToTheLastPosition) {
  EXPECT_EQ(RunsOf(InfoOf(256, {64, 8}), 256),
            (Runs{{64, 0},
                  {0, 64},
                  {0, 65},
                  {0, 127},
                  {0, 128},
                  {0, 129},
                  {64, 182},
                  {0, 246},
                  {8, 247},
                  {0, 255}}));
}

TEST(RecordingPlan, CostsNoMoreForALongCache) {
  const Runs runs = RunsOf(InfoOf(131072, {256}), 131072);
  EXPECT_LT(runs.size(), 40u);
  EXPECT_THAT(runs, testing::IsSupersetOf(Runs{{256, 0},
                                               {0, 256},
                                               {0, 4095},
                                               {0, 4096},
                                               {0, 65537},
                                               {256, 131072 - 257},
                                               {0, 131071}}));
}

TEST(RecordingPlan, StaysWithinACacheThatIsTooShort) {
  for (const int64_t length : {1, 2, 63, 64, 65, 66, 129, 130, 131, 4096}) {
    for (const std::vector<int64_t>& lengths :
         {std::vector<int64_t>{64}, std::vector<int64_t>{64, 8, 1}}) {
      const Runs runs = RunsOf(InfoOf(length, lengths), length);
      int64_t end = 0;  // of what runs: the last position
      for (const auto& [prefill, begin] : runs) {
        end = begin + std::max<int64_t>(prefill, 1);
      }
      EXPECT_EQ(end, length);
    }
  }
}

TEST(RecordingPlan, RingsAreNotFilledWithCopies) {
  ModelInfo info = InfoOf(256, {64, 8});
  info.ring_length = 32;
  EXPECT_EQ(RunsOf(info, 256), (Runs{{64, 0}, {0, 64}, {8, 65}, {0, 73}}));
}

TEST(RecordingPlan, EndsWhereRopeChangesForAllKeys) {
  const ModelInfo info = InfoOf(256, {64});
  ModelConfig config;
  EXPECT_EQ(PositionsOf(info, config), 256);
  config.max_position_embeddings = 200;
  EXPECT_EQ(PositionsOf(info, config), 256);
  config.dynamic_rope = true;
  EXPECT_EQ(PositionsOf(info, config), 200);
  config.long_rope.emplace();
  config.long_rope->original_max_position_embeddings = 128;
  EXPECT_EQ(PositionsOf(info, config), 128);
}

TEST(RowsOf, KnowsWhatProductionRuns) {
  ModelInfo info;
  info.prefills = {{.name = "prefill_8_cache_256", .length = 8}};
  info.ignored_signatures = {"decode_cache_128", "decode_lora_r4"};
  EXPECT_EQ(RowsOf(info, "prefill_8_cache_256"), 8);
  EXPECT_EQ(RowsOf(info, "decode_cache_256"), 1);
  EXPECT_EQ(RowsOf(info, "decode_cache_128"), 0);
  EXPECT_EQ(RowsOf(info, "decode_lora_r4"), 0);
  EXPECT_EQ(RowsOf(info, "prefill_64"), 0);
}

}  // namespace
}  // namespace verify_tflite
