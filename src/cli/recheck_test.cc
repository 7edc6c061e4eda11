#include "cli/recheck.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "cli/command_line.h"
#include "report/json.h"
#include "report/sample_verification.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::optional<RecheckFlags> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"verify_tflite", "recheck"});
  const CommandLine line =
      ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
  if (!line.command) return std::nullopt;
  return std::get<RecheckFlags>(*line.command);
}

void ExpectRefused(const std::vector<const char*>& arguments,
                   const std::string& message) {
  EXPECT_THAT([&] { Parse(arguments); },
              ThrowsMessage<Error>(HasSubstr(message)));
}

TEST(ParseRecheckFlags, TakesAll) {
  const RecheckFlags flags =
      Parse({"--max_kld=0.5", "r.json", "--max_flips", "0.25",
             "--tolerance=0.125", "--match_tokens=3", "--json=a", "--junit=b",
             "--markdown=c", "--html=d", "--quiet"})
          .value();
  EXPECT_EQ(flags.path, "r.json");
  EXPECT_EQ(flags.max_kld, 0.5);
  EXPECT_EQ(flags.max_flips, 0.25);
  EXPECT_EQ(flags.tolerance, 0.125);
  EXPECT_EQ(flags.match_tokens, 3);
  EXPECT_EQ(flags.reports.json, "a");
  EXPECT_EQ(flags.reports.junit, "b");
  EXPECT_EQ(flags.reports.markdown, "c");
  EXPECT_EQ(flags.reports.html, "d");
  EXPECT_TRUE(flags.quiet);
}

TEST(ParseRecheckFlags, HelpIsNoValue) {
  EXPECT_FALSE(Parse({"--help"}).has_value());
}

TEST(ParseRecheckFlags, RefusesByName) {
  ExpectRefused({}, "name the file");
  ExpectRefused({"a.json", "b.json"}, "b.json");
  ExpectRefused({"a.json", "--prompts=x"}, "--prompts");
  ExpectRefused({"a.json", "--max_kld=-1"}, "--max_kld: expected a positive");
  ExpectRefused({"a.json", "--max_kld="}, "the value is empty");
  ExpectRefused({"a.json", "--match_tokens=0"}, "--match_tokens");
}

class RecheckTest : public ::testing::Test {
 protected:
  Verification Run(RecheckFlags flags) {
    flags.path = dir_.Write("result.json", JsonReport(SoundVerification(400)));
    return Recheck(flags);
  }

  TempDir dir_;
};

TEST_F(RecheckTest, WithoutFlagsGivesTheSame) {
  EXPECT_EQ(JsonReport(Run({})), JsonReport(SoundVerification(400)));
}

TEST_F(RecheckTest, OtherLimitsDecideAnew) {
  EXPECT_EQ(Run({.max_kld = 1e-3}).outcome, Outcome::kDegraded);
  EXPECT_EQ(Run({.max_kld = 1e-3}).limits.kld.pass, 1e-3);
  EXPECT_EQ(Run({.max_flips = 0.005}).outcome, Outcome::kPass);
  EXPECT_EQ(Run({.match_tokens = 20}).prompts[0].checks[0].limit, 20);
}

TEST_F(RecheckTest, TheSmallestLimitTakesNoTime) {
  const Verification v = Run({.max_flips = 1e-300});
  EXPECT_EQ(v.checks[CheckGroup::kDivergence][2].name, "flips");
  EXPECT_EQ(v.checks[CheckGroup::kDivergence][2].outcome, Outcome::kNotChecked);
}

TEST(CheckWritable, RefusesTheSameFileTwice) {
  const TempDir dir;
  ReportFiles files;
  files.json = files.html = dir.File("r");
  EXPECT_THAT([&] { CheckWritable(files); },
              ThrowsMessage<Error>(HasSubstr("--html")));
}

TEST(WriteReports, WritesThoseThatAreNamed) {
  const TempDir dir;
  ReportFiles files;
  EXPECT_FALSE(AnyOf(files));
  files.junit = dir.File("r.xml");
  files.html = dir.File("r.html");
  EXPECT_TRUE(AnyOf(files));
  WriteReports(files, SampleVerification());
  EXPECT_THAT(ReadFile(files.junit), HasSubstr("<testsuites"));
  EXPECT_THAT(ReadFile(files.html), HasSubstr("</html>"));
}

}  // namespace
}  // namespace verify_tflite
