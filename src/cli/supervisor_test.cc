#include "cli/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/testing.h"
#include "cli/output_file.h"
#include "cli/terminal.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

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

TEST(RunSupervised, AFileThatMayNotGrowIsNoDamage) {
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(DieBy(SIGXFSZ), 2);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("ulimit -f"), Not(HasSubstr("damaged"))));
}

// Instead of a death in the middle of it.
TEST(RunSupervised, AWriteBeyondTheLimitIsTold) {
  const TempDir dir;
  const std::string path = dir.File("report.json");
  EXPECT_EQ(RunSupervised([&](const StageFn&) {
              const rlimit small = {4096, 4096};
              setrlimit(RLIMIT_FSIZE, &small);
              try {
                WriteWhole(path, std::string(100'000, 'x'));
              } catch (const Error& e) {
                return std::string_view(e.what()).find("File too large") ==
                               std::string_view::npos
                           ? 3
                           : 4;
              }
              return 0;
            }),
            4);
  EXPECT_TRUE(
      std::filesystem::is_empty(std::filesystem::path(path).parent_path()));
}

TEST(RunSupervised, WhatLibrariesPrintReachesNobody) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "sanitizers print there, too";
#endif
  ::testing::internal::CaptureStderr();
  RunSupervised([](const StageFn&) {
    std::fprintf(stderr, "thread panicked\n");
    std::fprintf(Terminal(), "an error of ours\n");
    return 2;
  });
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "an error of ours\n");
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
