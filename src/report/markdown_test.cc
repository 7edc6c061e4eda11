#include "report/markdown.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/approved.h"
#include "report/sample_verification.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MarkdownReport, IsAsApproved) {
  ExpectApproved("report.md", MarkdownReport(SampleVerification()));
  ExpectApproved("report_sound.md", MarkdownReport(SoundVerification(400)));
}

TEST(MarkdownReport, HostileTextStaysText) {
  Verification v = SampleVerification();
  v.prompts[0].prompt.text = "`` </code> <b> | @someone [a](b) **x** \n# h";
  v.findings[0].sentence = "@someone ![x](y)\n# h <img>";
  const std::string text = MarkdownReport(v);
  EXPECT_THAT(text,
              HasSubstr("| ``` \"`` </code> <b> \\| @someone [a](b) **x** "
                        "\\n# h\" ``` |"));
  EXPECT_THAT(text, HasSubstr("&#64;someone !&#91;x&#93;(y)"));
  EXPECT_THAT(text, Not(HasSubstr("<img>")));
  EXPECT_THAT(text, Not(HasSubstr("\n# h")));
}

TEST(MarkdownReport, FitsIntoAComment) {
  Verification v = SampleVerification();
  const std::string long_text(100'000, '*');
  v.prompts.assign(1000, v.prompts[1]);
  for (PromptResult& prompt : v.prompts) prompt.reference_text = long_text;
  v.findings.assign(1000, v.findings[0]);
  for (Finding& finding : v.findings) {
    finding.evidence = finding.cause = finding.remedy = long_text;
  }
  v.environment.command = v.reason = v.tflite_path = long_text;
  const std::string text = MarkdownReport(v);
  EXPECT_LT(text.size(), 65'536u);
  EXPECT_THAT(text, HasSubstr("--json"));
}

}  // namespace
}  // namespace verify_tflite
