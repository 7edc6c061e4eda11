#include "report/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/approved.h"
#include "report/sample_verification.h"
#include "result/judge.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
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

TEST(ConsoleReport, GivesTiesOfABrokenModelNoCredit) {
  Verification v = SoundVerification(400);
  PromptResult& prompt = v.prompts[0];
  for (int i = 0; i < 2; ++i) {
    LogitDifference& l = prompt.positions[i].logits;
    l.candidate_token = 41;
    l.margin = l.rms;
    prompt.positions[i].tie = true;
  }
  Judge(v);
  EXPECT_THAT(ConsoleReport(v),
              HasSubstr("First 10 tokens match: 10/10 ✓ (2 ties)"));
  for (Position& p : prompt.positions) p.logits.kld = 3;
  Judge(v);
  EXPECT_THAT(ConsoleReport(v),
              AllOf(HasSubstr("First 10 tokens match: 10/10 – (2 of them only "
                              "within this model's own noise)\n"),
                    HasSubstr(" RMS: within this model's own noise"),
                    Not(HasSubstr("a tie"))));
}

// Names from the model file are in details and in the verdict.
TEST(ConsoleReport, ShowsEscapesOfTheModelFile) {
  Verification v = SoundVerification(400);
  v.structure->faults = {{.signature = "decode\x1B[31m",
                          .stage = "query\x1B[31m",
                          .op = "",
                          .tensor = ""},
                         {.signature = "decode\x1B[31m",
                          .stage = "key\x1B[31m",
                          .op = "",
                          .tensor = ""}};
  Judge(v);
  EXPECT_THAT(ConsoleReport(v),
              AllOf(HasSubstr("query\\u001B[31m in decode"),
                    HasSubstr("      key\\u001B[31m"), Not(HasSubstr("\x1B"))));
}

TEST(ConsoleReport, SaysWhenLogitsAreNotFinite) {
  Verification v = SampleVerification();
  v.prompts.pop_back();
  v.prompts[0].checks = {{"finite_logits", Outcome::kBroken, {}, {}, "NaN!"}};
  EXPECT_THAT(ConsoleReport(v), HasSubstr("NaN! ✗"));
}

}  // namespace
}  // namespace verify_tflite
