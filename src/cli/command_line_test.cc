#include "cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

CommandLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "verify_tflite");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

template <typename Flags>
Flags ParseAs(const std::vector<const char*>& arguments) {
  return std::get<Flags>(Parse(arguments).command.value());
}

void ExpectRefused(const std::vector<const char*>& arguments,
                   const std::string& message) {
  EXPECT_THAT([&] { Parse(arguments); },
              ThrowsMessage<Error>(HasSubstr(message)))
      << arguments.front();
}

TEST(CommandLine, TakesValuesBothWays) {
  const auto flags = ParseAs<SelfCheckFlags>({"selfcheck", "--tflite_path=a=b",
                                              "--num_threads", "3", "--json=x",
                                              "--num_threads=4", "--json=y"});
  EXPECT_EQ(flags.tflite_path, "a=b");
  EXPECT_EQ(flags.num_threads, 4);
  EXPECT_EQ(flags.sliding_window, std::nullopt);
  EXPECT_TRUE(flags.json.asked);
  EXPECT_EQ(flags.json.path, "y");
}

TEST(CommandLine, JsonTakesNoNextArgument) {
  const auto flags = ParseAs<InspectFlags>({"inspect", "--json", "m.tflite"});
  EXPECT_TRUE(flags.json.asked);
  EXPECT_EQ(flags.json.path, "");
  EXPECT_EQ(flags.path, "m.tflite");
  EXPECT_FALSE(ParseAs<InspectFlags>({"inspect", "a"}).json.asked);
}

// Names of commands are names of files as well as any.
TEST(CommandLine, TheFirstArgumentAloneNamesACommand) {
  EXPECT_EQ(ParseAs<InspectFlags>({"inspect", "explain"}).path, "explain");
  EXPECT_EQ(ParseAs<InspectFlags>({"inspect", "inspect"}).path, "inspect");
  EXPECT_EQ(ParseAs<Flags>({"--tflite_path", "inspect", "--checkpoint_path=c"})
                .tflite_path,
            "inspect");
  ExpectRefused({"--quiet", "inspect", "a"},
                "\"inspect\": a command is the first argument");
}

TEST(CommandLine, HelpIsTheCommands) {
  for (const char* help : {"--help", "-h"}) {
    const CommandLine line = Parse({"weights", help});
    EXPECT_FALSE(line.command.has_value());
    EXPECT_THAT(line.text, AllOf(HasSubstr("--checkpoint_path"),
                                 HasSubstr("--json"), HasSubstr("Exit code"),
                                 HasSubstr("verify_tflite weights"),
                                 Not(HasSubstr("--prompts"))));
  }
  for (const char* command :
       {"inspect", "weights", "selfcheck", "recheck", "explain"}) {
    EXPECT_THAT(Parse({"--help"}).text, HasSubstr(command));
    EXPECT_THAT(Parse({command, "--help"}).text,
                HasSubstr(std::string("Usage: verify_tflite ") + command));
  }
}

TEST(CommandLine, RefusesByName) {
  ExpectRefused({"weights", "--tflite=a"}, "--tflite=a");
  ExpectRefused({"weights", "--tflite=a"},
                "(verify_tflite weights --help explains it)");
  ExpectRefused({"weights", "--tflite_pathx=a"}, "--tflite_pathx=a");
  ExpectRefused({"weights", "a"}, "weights: ");
  ExpectRefused({"weights"}, "weights: --tflite_path is required (verify_tfl");
  ExpectRefused({"weights", "--tflite_path=a"},
                "--checkpoint_path is required");
  ExpectRefused({"weights", "--tflite_path"}, "--tflite_path");
  ExpectRefused({"weights", "--tflite_path="}, "the value is empty");
  ExpectRefused({"weights", "--tflite_path", "--json"}, "the value is missing");
  ExpectRefused({"inspect", "--json="}, "the value is empty");
  ExpectRefused({"inspect"},
                "inspect: name a file or directory (verify_tflite");
  ExpectRefused({"inspect", "a", "b"}, "not expected: b");
  ExpectRefused({"explain", "--json"}, "--json");
  ExpectRefused({"explain", "a", "b"}, "not expected: b");
  ExpectRefused({"selfcheck", "--tflite_path=a", "--num_threads=x"},
                "--num_threads: expected a number");
  ExpectRefused({"recheck"}, "recheck: name the file that --json wrote");
}

}  // namespace
}  // namespace verify_tflite
