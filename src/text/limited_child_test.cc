#include "text/limited_child.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Keeps loops from being taken for ones that must end.
volatile bool g_go_on = true;

TEST(RunInLimitedChild, ReturnsTheResult) {
  EXPECT_EQ(RunInLimitedChild([] { return std::string(); }), "");
  const std::string large(1000000, 'x');
  EXPECT_EQ(RunInLimitedChild([&] { return large; }), large);
}

TEST(RunInLimitedChild, LeavesTheCallerAsItWas) {
  int touched = 0;
  RunInLimitedChild([&] {
    touched = 1;
    return std::string();
  });
  EXPECT_EQ(touched, 0);
}

TEST(RunInLimitedChild, PassesOnAnException) {
  EXPECT_THAT(
      [] {
        RunInLimitedChild(
            []() -> std::string { throw Error("no such {}", 1); });
      },
      ThrowsMessage<Error>("no such 1"));
}

TEST(RunInLimitedChild, SurvivesACrash) {
  EXPECT_THAT(
      [] {
        RunInLimitedChild([]() -> std::string {
          raise(SIGABRT);
          return "";
        });
      },
      ThrowsMessage<Error>(HasSubstr("it crashed (Aborted)")));
  EXPECT_THAT(
      [] {
        RunInLimitedChild([]() -> std::string {
          raise(SIGSEGV);
          return "";
        });
      },
      ThrowsMessage<Error>(HasSubstr("nested too deeply")));
  EXPECT_THAT([] { RunInLimitedChild([]() -> std::string { _exit(0); }); },
              ThrowsMessage<Error>(HasSubstr("without a result")));
}

TEST(RunInLimitedChild, EndsWhatWaitsForever) {
  EXPECT_THAT(
      [] {
        RunInLimitedChild(
            [] {
              while (g_go_on) pause();
              return std::string();
            },
            {.clock_seconds = 1});
      },
      ThrowsMessage<Error>(HasSubstr("took more than")));
}

TEST(RunInLimitedChild, EndsWhatRunsTooLong) {
  const ChildLimits limits = {.cpu_seconds = 1};
  EXPECT_THAT(
      [&] {
        RunInLimitedChild(
            [] {
              while (g_go_on) {
              }
              return std::string();
            },
            limits);
      },
      ThrowsMessage<Error>(HasSubstr("took more than")));
}

// The address sanitizer does not survive a failed allocation.
#ifndef __SANITIZE_ADDRESS__
TEST(RunInLimitedChild, EndsWhatNeedsTooMuchMemory) {
  EXPECT_THAT(
      [] {
        RunInLimitedChild(
            [] {
              std::vector<std::string> hoard;
              while (g_go_on) hoard.emplace_back(1 << 20, 'x');
              return hoard[0];
            },
            {.memory_bytes = 64 << 20});
      },
      ThrowsMessage<Error>(HasSubstr("too much memory")));
}
#endif

}  // namespace
}  // namespace verify_tflite
