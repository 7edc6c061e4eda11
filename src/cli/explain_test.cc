#include "cli/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "verify/finding_ids.h"

namespace verify_tflite {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;

std::string RunExplain(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"verify_tflite", "explain"});
  return Explain(static_cast<int>(arguments.size()), arguments.data());
}

std::set<std::string> PageIds() {
  std::set<std::string> ids;
  for (const FindingPage& page : ReadFindingPages(kFindingsDocument)) {
    EXPECT_TRUE(ids.insert(page.id).second) << page.id << " twice";
  }
  return ids;
}

TEST(FindingPages, AreThereForEveryIdAndNoOther) {
  const std::set<std::string> known(kFindingIds.begin(), kFindingIds.end());
  EXPECT_EQ(known.size(), kFindingIds.size());
  EXPECT_EQ(PageIds(), known);
}

// What the code names as `.id = "…"` or hands to a function as the id of a
// finding.
TEST(FindingPages, AreThereForEveryIdInTheCode) {
  const std::set<std::string> known(kFindingIds.begin(), kFindingIds.end());
  const std::regex pattern(
      "(\\.id = |\\.finding = |Find\\([a-z_]+, |\\? |: "
      ")\"([a-z]+(-[a-z]+)+)\"");
  std::set<std::string> found;
  for (const auto& entry :
       fs::recursive_directory_iterator(TestDataPath("../src"))) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".cc") || name.ends_with("_test.cc") ||
        name == "sample_verification.cc") {
      continue;
    }
    const std::string room = entry.path().parent_path().filename();
    if (room != "verify" && room != "locate") continue;
    const std::string code =
        std::regex_replace(ReadFile(entry.path()), std::regex("\\s+"), " ");
    for (std::sregex_iterator it(code.begin(), code.end(), pattern), end;
         it != end; ++it) {
      EXPECT_TRUE(known.count((*it)[2]) > 0)
          << entry.path() << ": " << (*it)[2]
          << " is in no page of docs/findings.md and not in finding_ids.h";
      found.insert((*it)[2]);
    }
  }
  EXPECT_TRUE(found.count("constant-logits") > 0);
  EXPECT_TRUE(found.count("bos-missing") > 0);
}

TEST(FindingPages, SayAllThatIsNeeded) {
  for (const FindingPage& page : ReadFindingPages(kFindingsDocument)) {
    EXPECT_THAT(
        page.text,
        AllOf(HasSubstr("\n- Shows as:"), HasSubstr("\n- Likely causes:"),
              HasSubstr("\n- What to do:"), Not(HasSubstr("**"))))
        << page.id;
    EXPECT_LT(page.summary.size(), 100u) << page.id;
    EXPECT_TRUE(page.summary.ends_with('.')) << page.id;
  }
}

TEST(Explain, PrintsOnePage) {
  EXPECT_THAT(
      RunExplain({"rope-base"}),
      AllOf(StartsWith("rope-base\n\n"), Not(HasSubstr("rope-scaling\n\n"))));
}

TEST(Explain, ListsAll) {
  const std::string list = RunExplain({});
  for (const std::string& id : PageIds()) EXPECT_THAT(list, HasSubstr(id));
}

TEST(Explain, NamesTheNearest) {
  EXPECT_THAT([] { RunExplain({"rope_base"}); },
              ThrowsMessage<Error>(HasSubstr("do you mean rope-base?")));
  EXPECT_THROW(RunExplain({"a", "b"}), Error);
  EXPECT_THROW(RunExplain({std::string(100'000, 'x').c_str()}), Error);
  EXPECT_THAT(RunExplain({"--help"}), HasSubstr("Usage"));
}

TEST(ReadFindingPages, TakesAnyDocument) {
  EXPECT_TRUE(ReadFindingPages("").empty());
  EXPECT_TRUE(ReadFindingPages("# Title\n").empty());
  const auto pages = ReadFindingPages("\n## a\n\n## b\n\n**Bold** one.\nTwo");
  ASSERT_EQ(pages.size(), 2u);
  EXPECT_EQ(pages[0].id, "a");
  EXPECT_EQ(pages[1].summary, "Bold one.");
  EXPECT_EQ(pages[1].text, "b\n\nBold one.\nTwo\n");
}

}  // namespace
}  // namespace verify_tflite
