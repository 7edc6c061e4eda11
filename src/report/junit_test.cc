#include "report/junit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/approved.h"
#include "report/sample_verification.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(JunitReport, IsAsApproved) {
  ExpectApproved("junit.xml", JunitReport(SampleVerification()));
  ExpectApproved("junit_sound.xml", JunitReport(SoundVerification(400)));
}

TEST(JunitReport, FailsExactlyWhereTheRunDoes) {
  EXPECT_THAT(JunitReport(SoundVerification(400)), Not(HasSubstr("<failure")));
  for (const Outcome outcome : {Outcome::kInconclusive, Outcome::kDegraded,
                                Outcome::kBroken, Outcome::kNotChecked}) {
    Verification v = SoundVerification(400);
    v.outcome = outcome;
    EXPECT_THAT(JunitReport(v), HasSubstr("<failure"));
  }
}

TEST(JunitReport, HoldsNothingThatXmlCannot) {
  Verification v = SoundVerification(400);
  for (int byte = 0; byte < 256; ++byte) {
    v.prompts[0].prompt.text += static_cast<char>(byte);
    v.reason += static_cast<char>(byte);
  }
  for (const char c : JunitReport(v)) {
    EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
  }
}

}  // namespace
}  // namespace verify_tflite
