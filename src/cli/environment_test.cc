#include "cli/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <stop_token>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Pair;

// Of FIPS 180-4's example "abc".
constexpr const char* kHashOfAbc =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(ShellCommand, QuotesWhatAShellWouldChange) {
  const char* argv[] = {"verify_tflite", "--prompts=What's \"AI\"?\n", "--a=b",
                        "", "$HOME"};
  EXPECT_EQ(ShellCommand(5, argv),
            "verify_tflite '--prompts=What'\\''s \"AI\"?\n' --a=b '' '$HOME'");
}

TEST(CpuModel, ReadsTheNameOrThePart) {
  EXPECT_EQ(
      CpuModel("processor\t: 0\nmodel\t\t: 85\nmodel name\t: A CPU @ 2\n"),
      "A CPU @ 2");
  EXPECT_EQ(CpuModel("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"),
            "CPU implementer 0x41, part 0xd0c");
  EXPECT_EQ(CpuModel(""), "");
  EXPECT_EQ(CpuModel("model name\nmodel name :"), "");
}

TEST(PackageVersion, IsThatOfTheDistributionWithTheFile) {
  const TempDir dir;
  const std::string root = dir.File("lib/site-packages");
  for (const char* name :
       {"other-2.dist-info", "some_name-1.5.dist-info", "package"}) {
    std::filesystem::create_directories(root + "/" + name);
  }
  WriteFile(root + "/other-2.dist-info/RECORD", "other/x.so,sha256=,1\n");
  WriteFile(root + "/other-2.dist-info/METADATA", "Version: 2\n");
  WriteFile(root + "/some_name-1.5.dist-info/RECORD",
            "package/liba.so.1,,\npackage/liba.so,sha256=x,12\n");
  WriteFile(root + "/some_name-1.5.dist-info/METADATA",
            "Name: some-name\nVersion: 1.5+cpu\n\nVersion: none\n");
  EXPECT_EQ(PackageVersion(root + "/package/liba.so"), "1.5+cpu");
  EXPECT_EQ(PackageVersion(root + "/package/libb.so"), "");
  EXPECT_EQ(PackageVersion("/usr/lib/liba.so"), "");
  EXPECT_EQ(PackageVersion(""), "");
}

TEST(HashFiles, TakesTheModelAndWhatTheCheckpointIsMadeOf) {
  const TempDir dir;
  const std::string model = dir.Write("m.tflite", "abc");
  std::filesystem::create_directories(dir.File("c"));
  for (const char* name : {"config.json", "pytorch_model.bin", "README.md",
                           "model.safetensors", "chat_template.jinja"}) {
    dir.Write(std::string("c/") + name, "abc");
  }
  EXPECT_THAT(HashFiles(model, dir.File("c")),
              ElementsAre(Pair("m.tflite", kHashOfAbc),
                          Pair("chat_template.jinja", kHashOfAbc),
                          Pair("config.json", kHashOfAbc),
                          Pair("model.safetensors", kHashOfAbc)));
  EXPECT_EQ(HashFiles(model, dir.File("c/pytorch_model.bin")).back().first,
            "pytorch_model.bin");
  EXPECT_THROW(HashFiles(dir.File("none"), dir.File("c")), Error);
}

TEST(HashFiles, EndsEarlyWhenAsked) {
  const TempDir dir;
  const std::string model = dir.Write("m.tflite", "abc");
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(HashFiles(model, dir.File("c"), stop.get_token()), IsEmpty());
}

// Waiting for a pipe would never end.
TEST(HashFiles, LeavesAPipeToTheRun) {
  const TempDir dir;
  std::filesystem::create_directories(dir.File("c"));
  ASSERT_EQ(mkfifo(dir.File("m.tflite").c_str(), 0600), 0);
  EXPECT_THAT(HashFiles(dir.File("m.tflite"), dir.File("c")), IsEmpty());
}

TEST(DescribeEnvironment, SaysWhenAndWhere) {
  const char* argv[] = {"verify_tflite"};
  const Environment e = DescribeEnvironment(1, argv);
  EXPECT_EQ(e.command, "verify_tflite");
  EXPECT_THAT(e.date, MatchesRegex("20[0-9-]+T[0-9:]+Z"));
  EXPECT_NE(e.cpu, "");
}

}  // namespace
}  // namespace verify_tflite
