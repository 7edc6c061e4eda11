#include "candidate/stderr_capture.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

namespace verify_tflite {
namespace {

TEST(StderrCaptureTest, TakesWhatIsWrittenToTheDescriptorAndTheStream) {
  StderrCapture outer;
  {
    const StderrCapture capture;
    ASSERT_EQ(write(STDERR_FILENO, "one ", 4), 4);
    std::fprintf(stderr, "two");
    EXPECT_EQ(capture.Text(100), "one two");
    EXPECT_EQ(capture.Text(5), "one t");
  }
  std::fprintf(stderr, "after");
  EXPECT_EQ(outer.Text(100), "after");
}

}  // namespace
}  // namespace verify_tflite
