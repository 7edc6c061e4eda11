#include "cli/output_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

size_t FilesIn(const std::string& directory) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(directory)) {
    ++count;
  }
  return count;
}

TEST(WriteWhole, ReplacesTheFileAndLeavesNothingElse) {
  const TempDir dir;
  const std::string path = dir.Write("report.json", "old");
  WriteWhole(path, "new");
  EXPECT_EQ(ReadFile(path), "new");
  EXPECT_EQ(FilesIn(dir.path()), 1u);
}

TEST(WriteWhole, FollowsALink) {
  const TempDir dir;
  const std::string target = dir.Write("target", "old");
  std::filesystem::create_symlink(target, dir.File("link"));
  WriteWhole(dir.File("link"), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(dir.File("link")));
  EXPECT_EQ(ReadFile(target), "new");
}

TEST(WriteWhole, WritesADeviceInPlace) {
  WriteWhole("/dev/null", "gone");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(CheckWritable, LeavesNothingBehind) {
  const TempDir dir;
  CheckWritable(dir.File("report.json"));
  EXPECT_EQ(FilesIn(dir.path()), 0u);
}

TEST(CheckWritable, RefusesWhatCannotBeWritten) {
  const TempDir dir;
  EXPECT_THAT([&] { CheckWritable(dir.File("absent") + "/report.json"); },
              ThrowsMessage<Error>(HasSubstr("cannot write: No such file")));
  EXPECT_THAT([&] { CheckWritable(dir.path()); },
              ThrowsMessage<Error>(HasSubstr("is a directory")));
  EXPECT_THAT([&] { CheckWritable("/proc/report.json"); },
              ThrowsMessage<Error>(HasSubstr("cannot write")));
}

}  // namespace
}  // namespace verify_tflite
