#include "report/self_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace verify_tflite {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

Check Passed(const std::string& name) {
  return {name, Outcome::kPass, 0.0, 1e-9, "equal to the bit"};
}

SelfCheckReport Sample() {
  SelfCheckReport report;
  report.tool_version = "1.2.3";
  report.tflite_path = "model.tflite";
  report.recipe = "float32";
  report.num_threads = 2;
  report.checks = {
      Passed("prefill_8"),
      {"prefill_64", Outcome::kBroken, 0.4, 1e-9, "63 tokens"},
      {"kv_end", Outcome::kNotChecked, {}, {}, "would take about 9.0 s"}};
  report.findings = {{.id = FindingId::kPrefillDiffers,
                      .sentence = "Prefill and decode differ.",
                      .evidence = "prefill_64: 63 tokens",
                      .cause = "prefill_64 alone",
                      .remedy = "Convert again."}};
  report.seconds = 1.25;
  return report;
}

TEST(SelfCheckReportTest, TextNamesChecksAndFindings) {
  const std::string text = SelfCheckText(Sample());
  EXPECT_THAT(text, HasSubstr("Self-check of model.tflite (float32)"));
  EXPECT_THAT(text, HasSubstr("✓ prefill_8    pass"));
  EXPECT_THAT(text, HasSubstr("✗ prefill_64   broken       63 tokens"));
  EXPECT_THAT(text, HasSubstr("- kv_end       not checked  would take"));
  EXPECT_THAT(text, HasSubstr("[prefill-differs] Prefill and decode differ."));
  EXPECT_THAT(text, HasSubstr("Likely cause: prefill_64 alone"));
  EXPECT_THAT(text, HasSubstr("What to do: Convert again."));
  EXPECT_THAT(text, HasSubstr("✗ BROKEN"));
}

TEST(SelfCheckReportTest, PassesOnWhatWasMade) {
  SelfCheckReport report = Sample();
  report.findings.clear();
  report.checks.erase(report.checks.begin() + 1);
  EXPECT_EQ(OutcomeOf(report), Outcome::kPass);
  EXPECT_THAT(
      SelfCheckText(report),
      EndsWith("✓ CONSISTENT: 1 of 2 checks made, all passed (1.2 s)\n"));
  report.checks.erase(report.checks.begin());
  EXPECT_EQ(OutcomeOf(report), Outcome::kNotChecked);
  EXPECT_EQ(OutcomeOf({}), Outcome::kNotChecked);
}

TEST(SelfCheckReportTest, Json) {
  SelfCheckReport report = Sample();
  report.checks[1].value = std::nan("");
  report.checks[1].detail = "no UTF-8: \xFF";
  const auto json = nlohmann::json::parse(SelfCheckJson(report));
  EXPECT_EQ(json["outcome"], "broken");
  EXPECT_EQ(json["num_threads"], 2);
  EXPECT_EQ(json["self_checks"].size(), 3u);
  EXPECT_EQ(json["self_checks"][0]["limit"], 1e-9);
  EXPECT_EQ(json["self_checks"][1]["outcome"], "broken");
  EXPECT_TRUE(json["self_checks"][1]["value"].is_null());
  EXPECT_EQ(json["self_checks"][2]["outcome"], "not_checked");
  EXPECT_EQ(json["findings"][0]["id"], "prefill-differs");
}

}  // namespace
}  // namespace verify_tflite
