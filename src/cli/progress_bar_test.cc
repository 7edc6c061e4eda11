#include "cli/progress_bar.h"

#include <gtest/gtest.h>

namespace verify_tflite {
namespace {

TEST(ProgressLine, ShowsStageBarAndCount) {
  EXPECT_EQ(ProgressLine("decode", 0, 30),
            "decode                               "
            "[                              ] 0/30");
  EXPECT_EQ(ProgressLine("decode", 15, 30),
            "decode                               "
            "[###############               ] 15/30");
  EXPECT_EQ(ProgressLine("decode", 40, 30),
            "decode                               "
            "[##############################] 40/30");
}

TEST(ProgressLine, WithoutATotalThereIsNoBar) {
  EXPECT_EQ(ProgressLine("opening", 0, 0), "opening");
}

TEST(ProgressLine, FitsATerminal) {
  const std::string long_stage(200, 'x');
  EXPECT_LE(ProgressLine(long_stage, 123456789, 1234567890).size(), 79u);
}

}  // namespace
}  // namespace verify_tflite
