#include "cli/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "cli/command_line.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

CommandLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "verify_tflite");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

// With the two required flags.
Flags ParseRun(std::vector<const char*> arguments) {
  arguments.insert(arguments.end(),
                   {"--tflite_path=m.tflite", "--checkpoint_path", "c"});
  return std::get<Flags>(Parse(arguments).command.value());
}

void ExpectRefused(std::vector<const char*> arguments,
                   const std::string& message) {
  EXPECT_THAT([&] { ParseRun(arguments); },
              ThrowsMessage<Error>(HasSubstr(message)))
      << arguments.front();
}

TEST(ParseFlags, Defaults) {
  const Flags flags = ParseRun({});
  EXPECT_EQ(flags.tflite_path, "m.tflite");
  EXPECT_EQ(flags.checkpoint_path, "c");
  EXPECT_THAT(flags.prompts, ElementsAre("What is AI?", "Hello, how are you?"));
  EXPECT_EQ(flags.settings.max_new_tokens, 30);
  EXPECT_EQ(flags.settings.match_tokens, 10);
  EXPECT_EQ(flags.settings.tolerance, 0.01);
  EXPECT_EQ(flags.settings.max_kld, std::nullopt);
  EXPECT_GE(flags.settings.num_threads, 1);
  EXPECT_EQ(flags.chat_template, "auto");
  EXPECT_EQ(flags.reports.json, "");
  EXPECT_FALSE(flags.quiet);
}

TEST(ParseFlags, BothForms) {
  const Flags flags =
      ParseRun({"--prompts=-1 is a number", "--prompts", "two words",
                "--max_new_tokens", "50", "--match_tokens=3",
                "--tolerance=1e-3", "--max_kld", "0.5", "--num_threads=2",
                "--chat_template=none", "--json=out.json", "--quiet"});
  EXPECT_THAT(flags.prompts, ElementsAre("-1 is a number", "two words"));
  EXPECT_EQ(flags.settings.max_new_tokens, 50);
  EXPECT_EQ(flags.settings.match_tokens, 3);
  EXPECT_EQ(flags.settings.tolerance, 1e-3);
  EXPECT_EQ(flags.settings.max_kld, 0.5);
  EXPECT_EQ(flags.settings.num_threads, 2);
  EXPECT_EQ(flags.chat_template, "none");
  EXPECT_EQ(flags.reports.json, "out.json");
  EXPECT_TRUE(flags.quiet);
}

TEST(ParseFlags, SelfCheckIsOnUnlessTurnedOff) {
  EXPECT_TRUE(ParseRun({}).settings.self_check);
  EXPECT_TRUE(ParseRun({"--self_check=on"}).settings.self_check);
  EXPECT_FALSE(ParseRun({"--self_check=off"}).settings.self_check);
  EXPECT_THROW(ParseRun({"--self_check=maybe"}), Error);
}

TEST(ParseFlags, StructureAndWeightsCostAreOnUnlessTurnedOff) {
  EXPECT_TRUE(ParseRun({}).settings.structure);
  EXPECT_TRUE(ParseRun({}).settings.weights_cost);
  const Settings one = ParseRun({"--structure=off"}).settings;
  EXPECT_FALSE(one.structure);
  EXPECT_TRUE(one.weights_cost);
  EXPECT_TRUE(one.self_check);
  EXPECT_FALSE(ParseRun({"--weights_cost", "off"}).settings.weights_cost);
  EXPECT_TRUE(
      ParseRun({"--structure=off", "--structure=on"}).settings.structure);
  ExpectRefused({"--structure=yes"},
                "--structure: expected on or off, found \"yes\"");
  ExpectRefused({"--weights_cost=1"}, "--weights_cost: expected on or off");
}

TEST(ParseFlags, RefusesAbsurdValues) {
  ExpectRefused({"--max_new_tokens=0"},
                "--max_new_tokens: expected a whole "
                "number from 1 to 1048576, found 0");
  ExpectRefused({"--max_new_tokens=-5"}, "--max_new_tokens: expected a whole");
  ExpectRefused({"--max_new_tokens", "-5"}, "max_new_tokens");
  ExpectRefused({"--max_new_tokens=99999999999999999999"}, "max_new_tokens");
  ExpectRefused({"--max_new_tokens=ten"}, "expected a number, found \"ten\"");
  ExpectRefused({"--max_new_tokens=1.5"}, "max_new_tokens");
  ExpectRefused({"--match_tokens=0"}, "match_tokens");
  ExpectRefused({"--tolerance=-0.1"}, "--tolerance: expected a positive");
  ExpectRefused({"--tolerance=nan"}, "--tolerance: expected a positive");
  ExpectRefused({"--max_kld=inf"}, "--max_kld: expected a positive");
  ExpectRefused({"--max_kld=0"}, "--max_kld: expected a positive");
  ExpectRefused({"--num_threads=0"}, "num_threads");
  ExpectRefused({"--num_threads=1000000"}, "num_threads");
  ExpectRefused({"--no_such_flag=1"}, "no_such_flag");
  ExpectRefused({"stray"}, "stray");
  ExpectRefused({"--max_new_tokens="}, "--max_new_tokens=: the value is");
}

TEST(ParseFlags, RefusesPromptsThatAreNoText) {
  ExpectRefused({"--prompts=ok", "--prompts=b\xFF"},
                "--prompts (2): not UTF-8 at byte 1: \"b\\xFF\"");
  ExpectRefused({"--prompts="}, "--prompts=: the value is empty");
}

TEST(ParseFlags, TakesNoFlagForTheValueOfAnother) {
  ExpectRefused({"--prompts", "--quiet"},
                "--prompts: the value is missing, found the flag --quiet; "
                "write --prompts=--quiet if that is the value");
  ExpectRefused({"--json", "--max_kld=1"}, "found the flag --max_kld=1");
  ExpectRefused({"--prompts", "a", "--prompts", "-h"}, "found the flag -h");
  ExpectRefused({"--prompts"}, "--prompts: the value is missing, found the");
  const Flags flags =
      ParseRun({"--prompts=--quiet", "--prompts", "--quietly, he said",
                "--prompts", "-1 is a number", "--prompts", "quiet"});
  EXPECT_THAT(flags.prompts, ElementsAre("--quiet", "--quietly, he said",
                                         "-1 is a number", "quiet"));
  EXPECT_FALSE(flags.quiet);
}

TEST(ParseFlags, NamesTheRequiredFlags) {
  EXPECT_THAT([] { Parse({"--checkpoint_path=c"}); },
              ThrowsMessage<Error>(HasSubstr("--tflite_path is required")));
  EXPECT_THAT([] { Parse({"--tflite_path=m"}); },
              ThrowsMessage<Error>(HasSubstr("--checkpoint_path is required")));
}

TEST(ParseFlags, HelpNamesEveryFlagAndVersionIsOneLine) {
  const CommandLine help = Parse({"--help"});
  EXPECT_FALSE(help.command.has_value());
  for (const char* flag :
       {"--tflite_path", "--checkpoint_path", "--prompts", "--prompts_file",
        "--max_new_tokens", "--tolerance", "--match_tokens", "--chat_template",
        "--num_threads", "--max_kld", "--structure", "--weights_cost", "--json",
        "--quiet", "--version", "--help", "Exit code"}) {
    EXPECT_THAT(help.text, HasSubstr(flag));
  }
  EXPECT_THAT(Parse({"--version"}).text,
              ::testing::MatchesRegex("verify_tflite [0-9.]+\n"));
}

TEST(ReadPromptsFile, TakesLinesAndJsonLines) {
  const TempDir dir;
  const std::string path =
      dir.Write("p",
                "\xEF\xBB\xBF"
                "one\r\n\n{\"prompt\": \"two\\nlines\", \"id\": 2}\n three");
  EXPECT_THAT(ReadPromptsFile(path),
              ElementsAre("one", "two\nlines", " three"));
}

TEST(ReadPromptsFile, NamesTheLineOfAFault) {
  const TempDir dir;
  const auto refused = [&](const char* content, const char* message) {
    const std::string path = dir.Write("p", content);
    EXPECT_THAT([&] { ReadPromptsFile(path); },
                ThrowsMessage<Error>(HasSubstr(message)));
  };
  refused("a\nb\xFF\n", "line 2: not UTF-8");
  refused("a\n{\"text\": 1}\n", "line 2: expected {\"prompt\"");
  refused("{\"prompt\": 3}\n", "line 1: expected {\"prompt\"");
  refused("{\"prompt\": \n", "line 1: not valid JSON");
  refused("{\"prompt\": \"\"}\n", "line 1: the prompt is empty");
  refused("\n\r\n", "no prompts in it");
}

TEST(ParseFlags, AddsThePromptsFileToThePrompts) {
  const TempDir dir;
  const std::string flag = "--prompts_file=" + dir.Write("p", "b\n");
  EXPECT_THAT(ParseRun({"--prompts=a", flag.c_str()}).prompts,
              ElementsAre("a", "b"));
}

}  // namespace
}  // namespace verify_tflite
