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
using ::testing::StartsWith;

TEST(ConsoleReport, IsAsApproved) {
  ExpectApproved("console.txt", ConsoleReport(SampleVerification()));
  ExpectApproved("console_sound.txt", ConsoleReport(SoundVerification(400)));
}

TEST(ConsoleReport, NeverSendsEscapesToTheTerminal) {
  EXPECT_THAT(ConsoleReport(SampleVerification()), Not(HasSubstr("\x1B")));
}

TEST(ConsoleReport, EndsInTheVerdict) {
  const Verification v = SampleVerification();
  EXPECT_THAT(ConsoleReport(v), EndsWith(VerdictLine(v) + "\n"));
  EXPECT_THAT(VerdictLine(v),
              StartsWith("✗ BROKEN: The file rotates by another RoPE base."));
  EXPECT_THAT(VerdictLine(SoundVerification(400)),
              StartsWith("✓ ALL TESTS PASSED: "));
}

TEST(VerdictLine, NothingComparedIsNotPassed) {
  EXPECT_THAT(VerdictLine(Verification{}), StartsWith("✗ NOT CHECKED"));
}

TEST(ConsoleReport, SaysWhenLogitsAreNotFinite) {
  Verification v = SampleVerification();
  v.prompts.pop_back();
  v.prompts[0].checks = {{"finite_logits", Outcome::kBroken, {}, {}, "NaN!"}};
  EXPECT_THAT(ConsoleReport(v), HasSubstr("NaN! ✗"));
}

}  // namespace
}  // namespace verify_tflite
