#include "cli/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "cli/command_line.h"
#include "result/finding.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;

std::string RunExplain(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"verify_tflite", "explain"});
  const CommandLine line =
      ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
  return line.command ? Explain(std::get<ExplainFlags>(*line.command))
                      : line.text;
}

TEST(Explain, PrintsOnePage) {
  EXPECT_THAT(
      RunExplain({"rope-base"}),
      AllOf(StartsWith("rope-base\n\n"), Not(HasSubstr("rope-scaling\n\n"))));
}

TEST(Explain, ListsAll) {
  const std::string list = RunExplain({});
  for (const FindingPage& page : FindingPages()) {
    EXPECT_THAT(list, HasSubstr(page.id));
  }
}

TEST(Explain, NamesTheNearest) {
  EXPECT_THAT([] { RunExplain({"rope_base"}); },
              ThrowsMessage<Error>(HasSubstr("do you mean rope-base?")));
  EXPECT_THROW(RunExplain({"a", "b"}), Error);
  EXPECT_THROW(RunExplain({std::string(100'000, 'x').c_str()}), Error);
  EXPECT_THAT(RunExplain({"--help"}), HasSubstr("Usage"));
}

}  // namespace
}  // namespace verify_tflite
