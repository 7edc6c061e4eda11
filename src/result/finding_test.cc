#include "result/finding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(FindingId, HasTheNamesOfThePagesInTheirOrder) {
  ASSERT_EQ(FindingPages().size(), std::size(kFindingNames));
  std::set<std::string> names;
  for (size_t i = 0; i < FindingPages().size(); ++i) {
    const std::string& name = FindingPages()[i].id;
    EXPECT_EQ(NameOf(static_cast<FindingId>(i)), name);
    EXPECT_EQ(ParseFindingId(name), static_cast<FindingId>(i));
    EXPECT_TRUE(names.insert(name).second) << name << " twice";
  }
  EXPECT_EQ(NameOf(FindingId::kRopeBase), "rope-base");
  EXPECT_EQ(NameOf(FindingId::kNan), "nan");
  EXPECT_EQ(ParseFindingId("rope_base"), std::nullopt);
  EXPECT_EQ(ParseFindingId(""), std::nullopt);
}

TEST(FindingPages, SayAllThatIsNeeded) {
  for (const FindingPage& page : FindingPages()) {
    EXPECT_THAT(
        page.text,
        AllOf(HasSubstr("\n- Shows as:"), HasSubstr("\n- Likely causes:"),
              HasSubstr("\n- What to do:"), Not(HasSubstr("**"))))
        << page.id;
    EXPECT_LT(page.summary.size(), 100u) << page.id;
    EXPECT_TRUE(page.summary.ends_with('.')) << page.id;
    EXPECT_TRUE(page.causes.ends_with('.')) << page.id;
    EXPECT_TRUE(page.remedy.ends_with('.')) << page.id;
  }
}

TEST(ReadFindingPages, TakesAnyDocument) {
  EXPECT_TRUE(ReadFindingPages("").empty());
  EXPECT_TRUE(ReadFindingPages("# Title\n").empty());
  const auto pages = ReadFindingPages(
      "\n## a\n\n## b\n\n**Bold** one.\nTwo\n\n- **Likely causes:** this\n"
      "  or that.\n- **What to do:** nothing.\n\nMore.");
  ASSERT_EQ(pages.size(), 2u);
  EXPECT_EQ(pages[0].id, "a");
  EXPECT_EQ(pages[0].causes, "");
  EXPECT_EQ(pages[1].summary, "Bold one.");
  EXPECT_EQ(pages[1].causes, "this or that.");
  EXPECT_EQ(pages[1].remedy, "nothing.");
  EXPECT_EQ(pages[1].text,
            "b\n\nBold one.\nTwo\n\n- Likely causes: this\n  or that.\n"
            "- What to do: nothing.\n\nMore.\n");
}

TEST(MakeFinding, TakesTheWordsOfThePage) {
  const Finding plain = MakeFinding({.id = FindingId::kNan});
  EXPECT_EQ(plain.severity, Outcome::kBroken);
  EXPECT_EQ(plain.sentence,
            "The model yields logits that are NaN or infinite.");
  EXPECT_THAT(plain.cause, HasSubstr("float16 activations"));
  EXPECT_THAT(plain.remedy, HasSubstr("float32 activations"));
  const Finding own = MakeFinding({.id = FindingId::kNan,
                                   .severity = Outcome::kDegraded,
                                   .evidence = "at 3 of 5",
                                   .sentence = "Some are NaN.",
                                   .cause = "A row of zeros."});
  EXPECT_EQ(own.severity, Outcome::kDegraded);
  EXPECT_EQ(own.sentence, "Some are NaN.");
  EXPECT_EQ(own.evidence, "at 3 of 5");
  EXPECT_EQ(own.cause, "A row of zeros.");
  EXPECT_EQ(own.remedy, plain.remedy);
}

}  // namespace
}  // namespace verify_tflite
