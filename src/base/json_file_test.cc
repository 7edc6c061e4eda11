#include "base/json_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(ParseJsonObject, ReturnsTheObject) {
  EXPECT_EQ(ParseJsonObject(R"({"a": [1, 2]})", "f")["a"][1], 2);
}

TEST(ParseJsonObject, NamesFileAndPlaceOfASyntaxError) {
  EXPECT_THAT(
      [] { ParseJsonObject("{\n\"a\": }", "config.json"); },
      ThrowsMessage<Error>(::testing::AllOf(
          HasSubstr("config.json: not valid JSON"), HasSubstr("line 2"))));
}

// As Python's json.loads reads them.
TEST(ParseJsonObject, ReadsTheNumbersThatPythonWrites) {
  const auto json = ParseJsonObject(
      R"({"a": [0.0, Infinity], "b": -Infinity, "c": NaN, "NaN": "Infinity",
          "d": "say \"NaN, Infinity", "e": {"f":Infinity}, "g": [NaN,NaN]})",
      "f");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(json["a"][0], 0.0);
  EXPECT_EQ(json["a"][1].get<double>(), kInfinity);
  EXPECT_EQ(json["b"].get<double>(), -kInfinity);
  EXPECT_TRUE(std::isnan(json["c"].get<double>()));
  EXPECT_EQ(json["NaN"], "Infinity");
  EXPECT_EQ(json["d"], "say \"NaN, Infinity");
  EXPECT_EQ(json["e"]["f"].get<double>(), kInfinity);
  EXPECT_TRUE(std::isnan(json["g"][1].get<double>()));
}

TEST(ParseJsonObject, TakesNoStringForSuchANumber) {
  for (char c = 'a'; c < 'z'; ++c) {
    const std::string text =
        fmt::format(R"({{"a": NaN, "b": ["a", "{}", "{}", "\u00{:02x}"]}})", c,
                    std::string(6, c), c);
    const auto json = ParseJsonObject(text, "f");
    EXPECT_TRUE(std::isnan(json["a"].get<double>())) << text;
    for (const auto& value : json["b"]) EXPECT_TRUE(value.is_string()) << text;
  }
  std::string all;
  for (char c = 'a'; c <= 'z'; ++c) all += fmt::format(", \"{}\"", c);
  EXPECT_THAT([&] { ParseJsonObject("{\"a\": [NaN" + all + "]}", "f"); },
              ThrowsMessage<Error>(HasSubstr("not valid JSON")));
}

TEST(ParseJsonObject, RefusesOtherWords) {
  for (const char* word : {"Inf", "nan", "infinity", "+Infinity", "- Infinity",
                           "NaNs", "xNaN", "--Infinity", "1Infinity", "True",
                           "Infinity5", "NaN NaN"}) {
    const std::string text = fmt::format("{{\"a\": {}}}", word);
    EXPECT_THAT([&] { ParseJsonObject(text, "f"); },
                ThrowsMessage<Error>(HasSubstr("not valid JSON")))
        << word;
  }
  // As a key, and in place of the whole.
  for (const char* text : {"{NaN: 1}", "NaN", "{\"a\": NaN", "{\"a\" NaN}"}) {
    EXPECT_THROW(ParseJsonObject(text, "f"), Error) << text;
  }
}

TEST(ParseJsonObject, NamesThePlaceBehindSuchANumber) {
  EXPECT_THAT([] { ParseJsonObject("{\"a\": [NaN, -Infinity, }", "f"); },
              ThrowsMessage<Error>(HasSubstr("column 24")));
}

TEST(ParseJsonObject, RefusesOtherThanAnObject) {
  EXPECT_THAT([] { ParseJsonObject("[1]", "f"); },
              ThrowsMessage<Error>(HasSubstr("expected a JSON object, found "
                                             "array")));
}

TEST(ParseJsonObject, RefusesDeepNesting) {
  const std::string deep =
      "{\"a\":" + std::string(1000000, '[') + std::string(1000000, ']') + "}";
  EXPECT_THAT([&] { ParseJsonObject(deep, "f"); },
              ThrowsMessage<Error>(HasSubstr("nested deeper than 128")));
}

TEST(ReadJsonFile, NamesAMissingFile) {
  const TempDir dir;
  EXPECT_THAT([&] { ReadJsonFile(dir.File("config.json")); },
              ThrowsMessage<Error>(HasSubstr("config.json: cannot open: No "
                                             "such file")));
}

}  // namespace
}  // namespace verify_tflite
