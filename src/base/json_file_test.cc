#include "base/json_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
