#include "text/eos.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/testing.h"
#include "text/testing_tokenizer.h"
#include "text/tokenizer.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

class ReadEosIdsTest : public ::testing::Test {
 protected:
  ReadEosIdsTest() { dir_.Write("tokenizer.json", kSmallTokenizer); }
  std::vector<int32_t> Read() {
    return ReadEosIds(dir_.path(), Tokenizer::Open(dir_.path()));
  }
  TempDir dir_;
};

TEST_F(ReadEosIdsTest, IsEmptyWhenNothingIsNamed) {
  EXPECT_THAT(Read(), IsEmpty());
  dir_.Write("config.json", "{}");
  dir_.Write("generation_config.json", R"({"eos_token_id": null})");
  dir_.Write("tokenizer_config.json", R"({"eos_token": null})");
  EXPECT_THAT(Read(), IsEmpty());
}

TEST_F(ReadEosIdsTest, GoesByGenerationConfigThenConfigThenTokenizer) {
  dir_.Write("tokenizer_config.json", R"({"eos_token": "ab"})");
  EXPECT_THAT(Read(), ElementsAre(3));
  dir_.Write("config.json", R"({"eos_token_id": 2})");
  EXPECT_THAT(Read(), ElementsAre(2));
  dir_.Write("generation_config.json", R"({"eos_token_id": [3, 1, 3]})");
  EXPECT_THAT(Read(), ElementsAre(1, 3));
}

TEST_F(ReadEosIdsTest, PassesOverAnEmptyOrNullEntry) {
  dir_.Write("config.json", R"({"eos_token_id": 2})");
  dir_.Write("generation_config.json", R"({"eos_token_id": []})");
  EXPECT_THAT(Read(), ElementsAre(2));
  dir_.Write("generation_config.json", R"({"eos_token_id": null})");
  EXPECT_THAT(Read(), ElementsAre(2));
}

TEST_F(ReadEosIdsTest, ReadsTheLongFormOfAToken) {
  dir_.Write("tokenizer_config.json", R"({"eos_token": {"content": "a"}})");
  EXPECT_THAT(Read(), ElementsAre(1));
}

TEST_F(ReadEosIdsTest, RefusesWhatIsNoToken) {
  const auto refuses = [&](const std::string& value) {
    dir_.Write("config.json", "{\"eos_token_id\": " + value + "}");
    EXPECT_THAT([&] { Read(); }, ThrowsMessage<Error>(AllOf(
                                     HasSubstr("config.json: `eos_token_id`"),
                                     HasSubstr(value))));
  };
  refuses("4");
  refuses("-1");
  refuses("18446744073709551615");
  refuses("1.5");
  refuses("\"ab\"");
  refuses("true");
  dir_.Write("config.json", R"({"eos_token_id": [1, "x"]})");
  EXPECT_THAT([&] { Read(); }, ThrowsMessage<Error>(HasSubstr("\"x\"")));
}

TEST_F(ReadEosIdsTest, RefusesATokenThatTheTokenizerLacks) {
  dir_.Write("tokenizer_config.json", R"({"eos_token": "</s>"})");
  EXPECT_THAT([&] { Read(); },
              ThrowsMessage<Error>(AllOf(HasSubstr("tokenizer_config.json"),
                                         HasSubstr("\"</s>\""))));
}

TEST_F(ReadEosIdsTest, PassesOnASyntaxError) {
  dir_.Write("generation_config.json", "{");
  EXPECT_THAT([&] { Read(); }, ThrowsMessage<Error>(HasSubstr(
                                   "generation_config.json: not valid JSON")));
}

}  // namespace
}  // namespace verify_tflite
