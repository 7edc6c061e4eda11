#include "structure/recording.h"

#include <gtest/gtest.h>

namespace verify_tflite {
namespace {

TEST(RecordingPlan, GoesThroughEverySignatureToTheLastPosition) {
  ModelInfo info;
  info.kv_length = 256;
  info.prefills = {{.name = "prefill_64", .length = 64},
                   {.name = "prefill_8", .length = 8}};
  int64_t end = 0;
  int64_t longest = 0;
  int64_t shortest = 0;
  for (const RecordingStep& step : PlanRecording(info)) {
    if (step.text == 0) continue;
    EXPECT_EQ(step.begin, end);
    end = step.begin + step.count;
    if (step.prefill > 0) {
      EXPECT_EQ(step.count % step.prefill, 0);
    }
    longest += step.keep && step.prefill == 64;
    shortest += step.keep && step.prefill == 8;
  }
  EXPECT_EQ(end, 256);
  EXPECT_EQ(longest, 1);
  EXPECT_EQ(shortest, 1);
}

TEST(RecordingPlan, StaysWithinACacheThatIsTooShort) {
  ModelInfo info;
  info.prefills = {{.name = "prefill", .length = 64}};
  for (const int64_t length : {1, 64, 65, 129, 130, 4096}) {
    info.kv_length = length;
    for (const RecordingStep& step : PlanRecording(info)) {
      EXPECT_LE(step.begin + step.count, length);
    }
  }
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
