#include "cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const ArgumentSpec kFlags = {
    .command = "weights", .flags = {"--tflite_path", "--n"}, .json = true};
const ArgumentSpec kPaths = {
    .command = "inspect", .flags = {}, .json = true, .paths = true};

Arguments Parse(const ArgumentSpec& spec, std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"verify_tflite", "command"});
  return ParseArguments(spec, static_cast<int>(arguments.size()),
                        arguments.data());
}

void ExpectRefused(const ArgumentSpec& spec,
                   const std::vector<const char*>& arguments,
                   const std::string& message) {
  EXPECT_THAT([&] { Parse(spec, arguments); },
              ThrowsMessage<Error>(HasSubstr(message)));
}

TEST(ParseArguments, TakesValuesBothWays) {
  const Arguments a =
      Parse(kFlags, {"--tflite_path=a=b", "--n", "--3", "--json=x", "--n=4"});
  EXPECT_EQ(a.Value("--tflite_path"), "a=b");
  EXPECT_EQ(a.Value("--n"), "4");
  EXPECT_EQ(a.Value("--other"), "");
  EXPECT_TRUE(a.json);
  EXPECT_EQ(a.json_path, "x");
  EXPECT_FALSE(a.help);
}

TEST(ParseArguments, JsonTakesNoNextArgument) {
  const Arguments a = Parse(kPaths, {"--json", "model.tflite"});
  EXPECT_TRUE(a.json);
  EXPECT_EQ(a.json_path, "");
  EXPECT_THAT(a.paths, ElementsAre("model.tflite"));
}

TEST(ParseArguments, HelpEndsIt) {
  EXPECT_TRUE(Parse(kFlags, {"--help", "--nonsense"}).help);
  EXPECT_TRUE(Parse(kFlags, {"-h"}).help);
  EXPECT_EQ(Parse(kFlags, {"--n", "--help"}).Value("--n"), "--help");
}

TEST(ParseArguments, RefusesByName) {
  ExpectRefused(kFlags, {"--tflite=a"}, "\"--tflite=a\": unknown (verify_");
  ExpectRefused(kFlags, {"--tflite_pathx=a"}, "--tflite_pathx=a");
  ExpectRefused(kFlags, {"a"}, "weights: \"a\": expected --flag=value");
  ExpectRefused(kFlags, {"--n="}, "--n: the value is empty");
  ExpectRefused(kFlags, {"--n"}, "--n: the value is empty");
  ExpectRefused(kFlags, {"--json="}, "--json: the value is empty");
  ExpectRefused({.command = "explain", .flags = {}, .paths = true}, {"--json"},
                "--json");
}

}  // namespace
}  // namespace verify_tflite
