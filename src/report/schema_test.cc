// docs/result.schema.json and docs/json_format.md say what is written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/testing.h"
#include "report/json.h"
#include "report/json_schema.h"
#include "report/sample_verification.h"

namespace verify_tflite {
namespace {

using Json = nlohmann::json;

Json Schema() {
  return Json::parse(ReadFile(TestDataPath("../docs/result.schema.json")));
}

bool HasType(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  ADD_FAILURE() << "unknown type " << type;
  return false;
}

// The part of JSON Schema that the file uses; a keyword that is not known here
// fails. Unlike the standard it takes no property that is not listed.
class Validator {
 public:
  explicit Validator(const Json& root) : root_(root) {}

  // What is wrong; empty if nothing.
  std::string Validate(const Json& value, const Json& schema,
                       const std::string& place) const {
    for (const auto& [keyword, argument] : schema.items()) {
      const std::string fault = Check(keyword, argument, value, place);
      if (!fault.empty()) return fault;
    }
    return "";
  }

 private:
  std::string Check(const std::string& keyword, const Json& argument,
                    const Json& value, const std::string& place) const {
    const std::string fault = place + ": " + keyword;
    if (keyword == "$ref") {
      return Validate(
          value,
          root_.at(Json::json_pointer(argument.get<std::string>().substr(1))),
          place);
    }
    if (keyword == "type") {
      for (const Json& type : argument.is_array() ? argument : Json{argument}) {
        if (HasType(value, type)) return "";
      }
      return fault;
    }
    if (keyword == "const") return value == argument ? "" : fault;
    if (keyword == "enum") {
      return std::count(argument.begin(), argument.end(), value) > 0 ? ""
                                                                     : fault;
    }
    if (keyword == "minimum") {
      return !value.is_number() || value >= argument ? "" : fault;
    }
    if (keyword == "minItems") return value.size() >= argument ? "" : fault;
    if (keyword == "maxItems") return value.size() <= argument ? "" : fault;
    if (keyword == "required") {
      for (const Json& name : argument) {
        if (!value.contains(name.get<std::string>())) {
          return fault + " " + name.get<std::string>();
        }
      }
      return "";
    }
    if (keyword == "properties") return Properties(argument, value, place);
    if (keyword == "items") {
      for (size_t i = 0; i < value.size(); ++i) {
        const std::string inside =
            Validate(value[i], argument, place + "[" + std::to_string(i) + "]");
        if (!inside.empty()) return inside;
      }
      return "";
    }
    if (keyword == "anyOf") {
      std::string last;
      for (const Json& option : argument) {
        last = Validate(value, option, place);
        if (last.empty()) return "";
      }
      return last;
    }
    const std::set<std::string> silent = {"$schema", "$defs", "title",
                                          "description"};
    return silent.count(keyword) > 0 ? "" : "unknown keyword " + keyword;
  }

  std::string Properties(const Json& properties, const Json& value,
                         const std::string& place) const {
    if (!value.is_object()) return place + ": no object";
    for (const auto& [key, inner] : value.items()) {
      if (!properties.contains(key)) return place + ": undocumented " + key;
      const std::string fault =
          Validate(inner, properties[key], place + "." + key);
      if (!fault.empty()) return fault;
    }
    return "";
  }

  const Json& root_;
};

std::string Validate(const Json& value) {
  const Json schema = Schema();
  return Validator(schema).Validate(value, schema, "$");
}

Json SampleJson() { return Json::parse(JsonReport(SampleVerification())); }

TEST(ResultSchema, DescribesWhatIsWritten) {
  EXPECT_EQ(Validate(SampleJson()), "");
  EXPECT_EQ(Validate(Json::parse(JsonReport(SoundVerification(40)))), "");
  EXPECT_EQ(Validate(Json::parse(JsonReport(Verification{}))), "");
  Verification v = SampleVerification();
  v.prompts[0].positions[0].logits.finite = false;
  v.prompts[0].prefill_logits->constant = true;
  v.prompts[1].positions[0].logits.kld =
      std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(Validate(Json::parse(JsonReport(v))), "");
}

TEST(ResultSchema, RefusesOtherThings) {
  const auto with = [](const char* pointer, const Json& value) {
    Json json = SampleJson();
    json[Json::json_pointer(pointer)] = value;
    return Validate(json);
  };
  EXPECT_EQ(with("/schema_version", 1), "$.schema_version: const");
  EXPECT_EQ(with("/new", 1), "$: undocumented new");
  EXPECT_EQ(with("/all/kld/mean", "x"), "$.all.kld.mean: type");
  EXPECT_EQ(with("/outcome", "fine"), "$.outcome: enum");
  EXPECT_EQ(with("/peak_memory_bytes", -1), "$.peak_memory_bytes: minimum");
  EXPECT_EQ(with("/checks/0/interval", {1}), "$.checks[0].interval: minItems");
  Json json = SampleJson();
  json["prompts"][0].erase("checks");
  EXPECT_EQ(Validate(json), "$.prompts[0]: required checks");
}

TEST(ResultSchema, IsThatOfTheListOfFields) {
  const std::string path = TestDataPath("../docs/result.schema.json");
  if (getenv("VERIFY_TFLITE_APPROVE") != nullptr) {
    WriteFile(path, JsonSchema());
  }
  EXPECT_EQ(ReadFile(path), JsonSchema());
}

// Counts properties, and those without a description.
void CountProperties(const Json& schema, int& count, int& bare) {
  if (schema.is_array()) {
    for (const Json& item : schema) CountProperties(item, count, bare);
  }
  if (!schema.is_object()) return;
  for (const auto& [key, value] : schema.items()) {
    if (key == "properties") {
      for (const auto& [name, inner] : value.items()) {
        ++count;
        if (inner.value("description", "").empty()) ++bare;
      }
    }
    CountProperties(value, count, bare);
  }
}

TEST(ResultSchema, EveryFieldIsExplained) {
  int count = 0;
  int bare = 0;
  CountProperties(Schema(), count, bare);
  EXPECT_GT(count, 150);
  // The keys of pairs.
  EXPECT_EQ(bare, 4);
}

}  // namespace
}  // namespace verify_tflite
