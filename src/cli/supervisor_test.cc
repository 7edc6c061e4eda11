#include "cli/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <string>

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(RunSupervised, PassesTheExitCodeOn) {
  for (const int code : {0, 1, 2}) {
    EXPECT_EQ(RunSupervised([code](const StageFn&) { return code; }), code);
  }
}

// The signals a crashing library raises, without a core dump.
int DieBy(int number) {
  return RunSupervised([number](const StageFn& stage) {
    stage("opening model.tflite");
    signal(number, SIG_DFL);
    raise(number);
    return 0;
  });
}

TEST(RunSupervised, ExplainsADeath) {
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(DieBy(SIGSEGV), 2);
  EXPECT_THAT(
      ::testing::internal::GetCapturedStderr(),
      AllOf(HasSubstr("signal 11"), HasSubstr("while opening model.tflite"),
            HasSubstr("Nothing was verified")));
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(DieBy(SIGKILL), 2);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("out of memory"));
}

TEST(RunSupervised, AnInterruptNeedsNoExplanation) {
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(DieBy(SIGINT), 130);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(RunSupervised, CutsALongStage) {
  EXPECT_EQ(RunSupervised([](const StageFn& stage) {
              stage(std::string(100000, 'x'));
              return 1;
            }),
            1);
}

}  // namespace
}  // namespace verify_tflite
