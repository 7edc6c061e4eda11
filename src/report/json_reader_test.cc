#include "report/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/error.h"
#include "base/testing.h"
#include "report/json.h"
#include "report/sample_verification.h"
#include "result/judge.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;
using Json = nlohmann::json;

void ExpectRoundTrip(const Verification& v) {
  const std::string text = JsonReport(v);
  EXPECT_EQ(JsonReport(ReadJsonReport(text, "r.json")), text);
}

void ExpectRefused(const std::string& text, const std::string& message) {
  EXPECT_THAT(
      [&] { ReadJsonReport(text, "r.json"); },
      ThrowsMessage<Error>(AllOf(StartsWith("r.json: "), HasSubstr(message))));
}

// The sample with the value at a JSON pointer replaced.
std::string With(const std::string& pointer, const Json& value) {
  Json json = Json::parse(JsonReport(SampleVerification()));
  json.at(Json::json_pointer(pointer)) = value;
  return json.dump();
}

TEST(ReadJsonReport, GivesBackEverything) {
  ExpectRoundTrip(SampleVerification());
  ExpectRoundTrip(SoundVerification(400));
  ExpectRoundTrip(Verification{});
}

TEST(ReadJsonReport, GivesBackWhatIsNoNumber) {
  Verification v = SampleVerification();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  v.prompts[0].positions[0].logits.finite = false;
  v.evaluation.positions[3].logits.kld = nan;
  v.evaluation.positions[4].logits.constant = true;
  v.settings.max_kld = 0.5;
  v.settings.max_flips = 0.25;
  Judge(v);
  v.checks[CheckGroup::kDivergence][0].interval = {nan, nan};
  ExpectRoundTrip(v);
}

TEST(ReadJsonReport, JudgedAgainItIsTheSame) {
  for (const Verification& v : {SampleVerification(), SoundVerification(400)}) {
    const std::string text = JsonReport(v);
    Verification again = ReadJsonReport(text, "r.json");
    Judge(again);
    EXPECT_EQ(JsonReport(again), text);
  }
}

TEST(ReadJsonReport, NullFiguresNeverPass) {
  Verification v = SoundVerification(400);
  v.evaluation.positions[7].logits.kld =
      std::numeric_limits<double>::quiet_NaN();
  Verification again = ReadJsonReport(JsonReport(v), "r.json");
  Judge(again);
  EXPECT_EQ(again.outcome, Outcome::kBroken);
}

TEST(ReadJsonReport, PassesOverNewFields) {
  Json json = Json::parse(JsonReport(SampleVerification()));
  json["new"] = {{"field", 1}};
  json["prompts"][0]["new"] = "field";
  EXPECT_EQ(JsonReport(ReadJsonReport(json.dump(), "r.json")),
            JsonReport(SampleVerification()));
}

// A result of a version that did not look into the structure.
TEST(ReadJsonReport, TakesOlderResults) {
  Json json = Json::parse(JsonReport(SoundVerification(400)));
  for (const char* key : {"structure", "structure_checks", "weights_cost"}) {
    json.erase(key);
  }
  for (const char* key : {"structure", "weights_cost"}) {
    json["settings"].erase(key);
    json["timing_seconds"].erase(key);
  }
  Verification v = ReadJsonReport(json.dump(), "r.json");
  EXPECT_FALSE(v.structure.has_value());
  Judge(v);
  EXPECT_EQ(v.outcome, Outcome::kPass);
  EXPECT_THAT(v.reason, HasSubstr("no operator verified."));
}

TEST(ReadJsonReport, GivesBackStructureAndCosts) {
  const Verification v =
      ReadJsonReport(JsonReport(SampleVerification()), "r.json");
  ASSERT_TRUE(v.structure.has_value());
  EXPECT_EQ(v.structure->signatures.size(), 3u);
  EXPECT_EQ(v.structure->signatures[0].positions[1].second, 12);
  EXPECT_EQ(v.structure->faults[2].layer, 1);
  const Verification sound =
      ReadJsonReport(JsonReport(SoundVerification(400)), "r.json");
  ASSERT_TRUE(sound.weights_cost.has_value());
  EXPECT_EQ(sound.weights_cost->figures.kld.count, 400);
  Verification off = SoundVerification(40);
  off.settings.structure = off.settings.weights_cost = false;
  off.structure.reset();
  ExpectRoundTrip(off);
  Verification magnifying = SoundVerification(40);
  magnifying.rounding = magnifying.all;
  magnifying.limits.rounding = 0.5;
  ExpectRoundTrip(magnifying);
}

// An error that is no number is null in the file, and no pass.
TEST(ReadJsonReport, NullErrorsNeverPass) {
  Verification v = SoundVerification(400);
  v.structure->signatures[2].stages[4].worst =
      std::numeric_limits<double>::quiet_NaN();
  Verification again = ReadJsonReport(JsonReport(v), "r.json");
  Judge(again);
  EXPECT_EQ(again.outcome, Outcome::kDegraded);
}

TEST(ReadJsonReport, RefusesOtherVersions) {
  ExpectRefused(With("/schema_version", 1), "schema_version is 1");
  ExpectRefused(With("/schema_version", 3), "verify the model again");
  ExpectRefused(With("/schema_version", "2"), "schema_version is no number");
  ExpectRefused("{}", "no result of verify_tflite --json");
  ExpectRefused("[]", "expected a JSON object");
}

TEST(ReadJsonReport, RefusesWrongValuesByPlace) {
  ExpectRefused(With("/prompts/1/positions/3/kld", "much"),
                "$.prompts[1].positions[3].kld: expected a number, found "
                "\"much\"");
  ExpectRefused(With("/prompts/1/positions/3/kld", -1), "not negative");
  ExpectRefused(With("/prompts/1/positions/3/rms", -1e-9), "not negative");
  ExpectRefused(With("/outcome", "splendid"), "expected an outcome");
  ExpectRefused(With("/model/recipe", "int3"), "expected a recipe");
  ExpectRefused(With("/eos_ids/0", 1e30), "$.eos_ids[0]: expected a whole");
  ExpectRefused(With("/eos_ids/0", uint64_t{1} << 63), "whole number");
  ExpectRefused(With("/eos_ids/0", int64_t{1} << 40), "whole number");
  ExpectRefused(With("/evaluation/positions/0/index", -1), "whole number");
  ExpectRefused(With("/evaluation/positions/0/index", INT64_MAX), "whole");
  ExpectRefused(With("/evaluation/passages/0/end", 41),
                "passages: positions that are not there");
  ExpectRefused(With("/evaluation/passages/1/begin", 41),
                "positions that are not there");
  ExpectRefused(With("/evaluation/passages/1/end", 3),
                "positions that are not there");
  ExpectRefused(With("/checks/0/interval", {1, 2, 3}), "a list of two numbers");
  ExpectRefused(With("/structure/signatures/0/verified_ops", 695),
                "from 0 to 694");
  ExpectRefused(With("/structure/signatures/0/positions/0", {5, 3}),
                "positions: a pair in the wrong order");
  ExpectRefused(With("/structure/signatures/0/stages/0/worst", -1),
                "not negative");
  ExpectRefused(With("/structure/faults/0/layer", -2), "from -1 to");
  ExpectRefused(With("/structure/same_bits", 1), "true or false");
  ExpectRefused(With("/settings/structure", "on"), "true or false");
  ExpectRefused(With("/weights_cost", 1), "an object");
  ExpectRefused(With("/settings/max_kld", -1), "a positive number");
  ExpectRefused(With("/settings/tolerance", nullptr), "a number");
  ExpectRefused(With("/prompts/0/positions", Json::array()),
                "positions: not one for each of reference_ids");
  ExpectRefused(With("/prompts", std::string(1000, 'x')), "…");
  ExpectRefused(With("/timing_seconds/total", nullptr), "a number");
}

// Every field of every object must be there.
TEST(ReadJsonReport, RefusesMissingFields) {
  const Json sample = Json::parse(JsonReport(SampleVerification()));
  // Written for readers of the file, computed anew here.
  const std::set<std::string> derived = {"/passed", "/num_prompts",
                                         "/num_failed"};
  // Versions before did not write these.
  const std::set<std::string> newer = {"/model/converted_by",
                                       "/model/min_runtime_version",
                                       "/model/num_states",
                                       "/model/pad_token",
                                       "/checkpoint/text_type",
                                       "/checkpoint/transformers_version",
                                       "/environment/reference_version",
                                       "/structure",
                                       "/notes",
                                       "/peak_mapped_bytes",
                                       "/settings/tolerance_given",
                                       "/weights_cost",
                                       "/structure_checks",
                                       "/settings/structure",
                                       "/settings/weights_cost",
                                       "/timing_seconds/structure",
                                       "/timing_seconds/weights_cost"};
  int removed = 0;
  const auto remove_each = [&](const std::string& pointer) {
    const Json object = sample.at(Json::json_pointer(pointer));
    for (const auto& [key, value] : object.items()) {
      Json json = sample;
      if (derived.count(pointer + "/" + key) > 0 ||
          newer.count(pointer + "/" + key) > 0 || key == "interval" ||
          key == "broken_limit" || key == "first_difference" || key == "unit") {
        continue;
      }
      json.at(Json::json_pointer(pointer)).erase(key);
      EXPECT_THROW(ReadJsonReport(json.dump(), "r.json"), Error)
          << pointer << "/" << key;
      ++removed;
    }
  };
  for (const char* pointer : {"",
                              "/model",
                              "/model/prefills/0",
                              "/model/weights/0",
                              "/checkpoint",
                              "/settings",
                              "/limits",
                              "/limits/kld",
                              "/all",
                              "/all/kld",
                              "/buckets/0",
                              "/checks/0",
                              "/findings/0",
                              "/kv_profile",
                              "/kv_profile/layers/0",
                              "/kv_profile/layers/0/decode_v",
                              "/structure",
                              "/structure/signatures/0",
                              "/structure/signatures/0/stages/0",
                              "/structure/faults/0",
                              "/hypotheses/0",
                              "/timing_seconds",
                              "/environment",
                              "/environment/files/0",
                              "/prompts/0",
                              "/prompts/0/positions/1",
                              "/evaluation",
                              "/evaluation/passages/0"}) {
    remove_each(pointer);
  }
  EXPECT_GT(removed, 150);
}

TEST(ReadJsonReport, RefusesDamagedText) {
  Verification v = SampleVerification();
  v.evaluation = {};
  const std::string text = JsonReport(v);
  for (size_t size = 0; size + 2 < text.size(); size += 37) {
    EXPECT_THROW(ReadJsonReport(text.substr(0, size), "r.json"), Error);
  }
  ExpectRefused(std::string(100'000, '['), "");
  ExpectRefused("{\"schema_version\": 2, \"tool_version\": 1e999}", "");
  ExpectRefused("{\"schema_version\": NaN}", "schema_version is null");
}

TEST(ReadJsonReportFile, NamesTheFile) {
  const TempDir dir;
  EXPECT_THAT([&] { ReadJsonReportFile(dir.File("none.json")); },
              ThrowsMessage<Error>(HasSubstr("none.json")));
  const std::string path =
      dir.Write("r.json", JsonReport(SampleVerification()));
  EXPECT_EQ(ReadJsonReportFile(path).reason, SampleVerification().reason);
}

}  // namespace
}  // namespace verify_tflite
