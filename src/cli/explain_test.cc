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

// In the rooms that find faults, literals of this form are ids of findings, and
// so is what is handed to these functions or set as an id.
std::set<std::string> IdsIn(const std::string& code) {
  const std::regex hyphened("\"([a-z]+(-[a-z]+)+)\"");
  const std::regex named(
      "(\\.id = |\\.finding = |\\b(Find|Add|With|add)\\(([a-z_]+, )?|"
      "\\bChange [a-z]+\\{)\"([a-z-]+)\"");
  std::set<std::string> ids;
  for (std::sregex_iterator it(code.begin(), code.end(), hyphened), end;
       it != end; ++it) {
    ids.insert((*it)[1]);
  }
  for (std::sregex_iterator it(code.begin(), code.end(), named), end; it != end;
       ++it) {
    ids.insert((*it)[4]);
  }
  return ids;
}

TEST(FindingPages, AreThereForEveryIdInTheCode) {
  const std::set<std::string> known(kFindingIds.begin(), kFindingIds.end());
  std::set<std::string> found;
  for (const auto& entry :
       fs::recursive_directory_iterator(TestDataPath("../src"))) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".cc") || name.ends_with("_test.cc")) continue;
    const std::string room = entry.path().parent_path().filename();
    if (room != "verify" && room != "locate" && room != "audit") continue;
    const std::string code =
        std::regex_replace(ReadFile(entry.path()), std::regex("\\s+"), " ");
    for (const std::string& id : IdsIn(code)) {
      if (id == "min-max") continue;  // how scales were chosen
      EXPECT_TRUE(known.count(id) > 0)
          << entry.path() << ": " << id
          << " is in no page of docs/findings.md and not in finding_ids.h";
      found.insert(id);
    }
  }
  for (const char* id : {"constant-logits", "nan", "bos-missing", "mask",
                         "activation", "norm-eps", "scale", "embedding"}) {
    EXPECT_TRUE(found.count(id) > 0) << id << " is not found in the code";
  }
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
