#include "report/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "report/approved.h"
#include "report/sample_verification.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(HtmlReport, IsAsApproved) {
  ExpectApproved("report.html", HtmlReport(SampleVerification()));
}

TEST(HtmlReport, HostileTextStaysText) {
  const std::string html = HtmlReport(SampleVerification());
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("\x1B")));
}

TEST(HtmlReport, MarksWhereTextsPart) {
  Verification v = SampleVerification();
  v.prompts[0].shared_text = "AI";
  v.prompts[0].reference_text = "AI";
  v.prompts[0].candidate_text = "AI \nis not it";
  const std::string html = HtmlReport(v);
  EXPECT_THAT(html, HasSubstr("AI<mark>(ends here)</mark>"));
  EXPECT_THAT(html,
              HasSubstr("AI<mark> \nis</mark><span class=\"rest\"> not it"));
}

TEST(HtmlReport, LoadsNothing) {
  for (const Verification& v : {SampleVerification(), SoundVerification(400)}) {
    const std::string html = HtmlReport(v);
    for (const char* loading :
         {"http:", "https:", "src=", "url(", "@import", "<link", "<script"}) {
      EXPECT_THAT(html, Not(HasSubstr(loading)));
    }
  }
}

// Every element that is opened is closed, in order.
TEST(HtmlReport, IsWellFormed) {
  for (const Verification& v :
       {SampleVerification(), SoundVerification(400), Verification{}}) {
    const std::string html = HtmlReport(v);
    std::vector<std::string> open;
    for (size_t at = html.find('<'); at != std::string::npos;
         at = html.find('<', at + 1)) {
      const std::string tag = html.substr(at, html.find('>', at) - at + 1);
      const std::string name =
          tag.substr(tag[1] == '/' ? 2 : 1,
                     tag.find_first_of(" >/", 2) - (tag[1] == '/' ? 2 : 1));
      if (tag.ends_with("/>") || name == "!DOCTYPE" || name == "meta" ||
          name == "br") {
        continue;
      }
      if (tag[1] != '/') {
        open.push_back(name);
        continue;
      }
      ASSERT_FALSE(open.empty()) << tag;
      ASSERT_EQ(open.back(), name) << html.substr(at, 80);
      open.pop_back();
    }
    EXPECT_TRUE(open.empty());
  }
}

TEST(HtmlReport, AnswersWhetherItIsFaithful) {
  const auto says = [](const Verification& v, const char* what) {
    EXPECT_THAT(HtmlReport(v), HasSubstr(what));
  };
  Verification v = SoundVerification(400);
  says(v, "<p>Yes: every byte");
  v.checks[CheckGroup::kStructure][0].outcome = Outcome::kNotChecked;
  says(v, "<p>Not shown: ");
  v.checks[CheckGroup::kStructure][0].outcome = Outcome::kDegraded;
  says(v, "<p>No: ");
  v = SoundVerification(400);
  v.checks[CheckGroup::kWeights].clear();
  says(v, "<p>Not shown: ");
}

TEST(HtmlReport, TheBarHoldsBothParts) {
  EXPECT_THAT(HtmlReport(SoundVerification(400)),
              HasSubstr("<rect class=\"weights\" width=\"250.0\" "
                        "height=\"26\"/><rect class=\"rest\" x=\"250.0\" "
                        "width=\"750.0\""));
  Verification v = SoundVerification(400);
  v.weights_cost->figures.kld.mean = 1;  // more than the whole
  EXPECT_THAT(HtmlReport(v),
              HasSubstr("x=\"1000.0\" width=\"0.0\" height=\"26\"/>"));
  v.weights_cost->figures.kld.count = 1;
  EXPECT_THAT(HtmlReport(v), Not(HasSubstr("class=\"share\"")));
}

TEST(HtmlReport, StaysSmall) {
  Verification v = SoundVerification(200'000);
  v.structure->signatures.assign(3000, v.structure->signatures[0]);
  v.structure->faults.assign(3000, {.signature = std::string(50'000, '<'),
                                    .stage = "query",
                                    .op = "MUL",
                                    .tensor = std::string(50'000, '<')});
  v.prompts.assign(500, v.prompts[0]);
  for (PromptResult& r : v.prompts) {
    r.reference_text = std::string(50'000, 'x');
    for (Position& p : r.positions) p.logits.candidate_token = 41;
  }
  const std::string html = HtmlReport(v);
  EXPECT_LT(html.size(), 1'000'000u);
  EXPECT_THAT(html, HasSubstr("… and 450 more"));
  EXPECT_THAT(html, HasSubstr("are drawn"));
}

}  // namespace
}  // namespace verify_tflite
