#include "report/json.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "report/approved.h"
#include "report/sample_verification.h"
#include "result/fields.h"

namespace verify_tflite {
namespace {

TEST(JsonReport, IsAsApproved) {
  ExpectApproved("report.json", JsonReport(SampleVerification()));
}

TEST(JsonReport, CanBeReadBack) {
  const auto json = nlohmann::json::parse(JsonReport(SampleVerification()));
  EXPECT_EQ(json["schema_version"], kJsonSchemaVersion);
  EXPECT_EQ(json["passed"], false);
  EXPECT_EQ(json["prompts"][0]["first_difference"], 1);
  EXPECT_EQ(json["prompts"][0]["positions"][1]["tie"], true);
  EXPECT_EQ(json["prompts"][1]["positions"][0]["candidate_text"], "\uFFFD");
}

TEST(JsonReport, LeavesOutFiguresThatDoNotExist) {
  Verification v = SampleVerification();
  v.prompts[0].positions[0].logits.finite = false;
  v.prompts[0].checks[0].value = std::numeric_limits<double>::quiet_NaN();
  const auto json = nlohmann::json::parse(JsonReport(v));
  EXPECT_FALSE(json["prompts"][0]["positions"][0].contains("kld"));
  EXPECT_TRUE(json["prompts"][0]["checks"][0]["value"].is_null());
}

TEST(JsonReport, PassedIsTheOutcomePass) {
  EXPECT_EQ(nlohmann::json::parse(JsonReport(SoundVerification(400)))["passed"],
            true);
  EXPECT_EQ(nlohmann::json::parse(JsonReport(Verification{}))["passed"], false);
}

}  // namespace
}  // namespace verify_tflite
