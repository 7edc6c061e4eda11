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
    return ReadAll().ids;
  }
  EosIds ReadAll() {
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
  refuses("1.5");
  refuses("\"ab\"");
  refuses("true");
  dir_.Write("config.json", R"({"eos_token_id": [1, "x"]})");
  EXPECT_THAT([&] { Read(); }, ThrowsMessage<Error>(HasSubstr("\"x\"")));
}

// transformers' generate() compares each new token with these numbers.
TEST_F(ReadEosIdsTest, NotesNumbersThatNoTokenHas) {
  for (const char* value : {"4", "-1", "18446744073709551615"}) {
    dir_.Write("generation_config.json",
               fmt::format("{{\"eos_token_id\": {}}}", value));
    dir_.Write("config.json", R"({"eos_token_id": 2})");
    const EosIds read = ReadAll();
    EXPECT_THAT(read.ids, IsEmpty()) << "the config does not fill in";
    EXPECT_THAT(read.notes,
                ElementsAre(AllOf(HasSubstr("generation_config.json: "
                                            "`eos_token_id` "),
                                  HasSubstr(value), HasSubstr("ignored"),
                                  HasSubstr("ids from 0 to 3"))));
  }
  dir_.Write("generation_config.json",
             R"({"eos_token_id": [2, 49200, -1], "pad_token_id": -1})");
  dir_.Write("config.json", R"({"bos_token_id": 4, "pad_token_id": 1})");
  const EosIds read = ReadAll();
  EXPECT_THAT(read.ids, ElementsAre(2));
  EXPECT_THAT(read.notes, ElementsAre(HasSubstr("49200, -1"),
                                      HasSubstr("`pad_token_id` -1"),
                                      HasSubstr("config.json: `bos_token_id`"
                                                " 4")));
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
