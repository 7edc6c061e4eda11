#include "report/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/approved.h"
#include "report/sample_verification.h"

namespace verify_tflite {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ConsoleReport, IsAsApproved) {
  ExpectApproved("console.txt", ConsoleReport(SampleVerification()));
}

TEST(ConsoleReport, NeverSendsEscapesToTheTerminal) {
  EXPECT_THAT(ConsoleReport(SampleVerification()), Not(HasSubstr("\x1B")));
}

TEST(ConsoleReport, EndsInTheVerdict) {
  Verification v = SampleVerification();
  EXPECT_THAT(ConsoleReport(v), EndsWith("✗ 1 of 2 prompts failed, 1 finding: "
                                         "stop-token-differs\n"));
  v.prompts.pop_back();
  EXPECT_THAT(ConsoleReport(v), EndsWith("✗ 0 of 1 prompts failed, 1 finding: "
                                         "stop-token-differs\n"));
  v.findings.clear();
  EXPECT_THAT(ConsoleReport(v), EndsWith("✓ ALL TESTS PASSED\n"));
}

TEST(VerdictLine, NoPromptsIsNotPassed) {
  EXPECT_EQ(VerdictLine(Verification{}), "✗ 0 of 0 prompts failed");
}

TEST(ConsoleReport, SaysWhenLogitsAreNotFinite) {
  Verification v = SampleVerification();
  v.prompts.pop_back();
  v.prompts[0].checks = {{"finite_logits", Outcome::kFail, {}, {}, "NaN!"}};
  v.prompts[0].passed = false;
  EXPECT_THAT(ConsoleReport(v), HasSubstr("NaN! ✗"));
}

}  // namespace
}  // namespace verify_tflite
