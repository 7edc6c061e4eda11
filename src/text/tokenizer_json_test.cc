#include "text/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/testing_tokenizer.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TokenizerJson Check(std::string_view text) {
  return CheckTokenizerJson(text, "dir/tokenizer.json");
}

// The small tokenizer with the first `from` replaced.
std::string With(std::string_view from, std::string_view to) {
  std::string text(kSmallTokenizer);
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(CheckTokenizerJson, ReportsWhatTheCallerNeeds) {
  const TokenizerJson found = Check(kSmallTokenizer);
  EXPECT_EQ(found.max_id, 3);
  EXPECT_EQ(found.unk_token, "<unk>");
  EXPECT_FALSE(found.truncates);
  EXPECT_FALSE(found.pads);
  EXPECT_FALSE(found.ignores_merges);
  EXPECT_TRUE(
      Check(With("\"ignore_merges\": false", "\"ignore_merges\": true"))
          .ignores_merges);
  EXPECT_EQ(Check(With("\"id\": 0", "\"id\": 300")).max_id, 300);
  EXPECT_TRUE(
      Check(With("\"truncation\": null", "\"truncation\": {}")).truncates);
  EXPECT_TRUE(Check(With("\"padding\": null", "\"padding\": {}")).pads);
}

TEST(CheckTokenizerJson, AcceptsTheOtherForms) {
  Check(With(R"([["a", "b"]])", R"(["a b"])"));
  Check(With(R"("type": "BPE",)", ""));
  Check(With(R"("unk_token": "<unk>")", R"("unk_token": null)"));
  const auto unigram = Check(
      R"({"model": {"type": "Unigram", "unk_id": 1,
                    "vocab": [["a", -1.5], ["b", 0]]}})");
  EXPECT_EQ(unigram.max_id, 1);
  Check(R"({"model": {"type": "WordLevel", "vocab": {"a": 0}}})");
}

TEST(CheckTokenizerJson, RefusesAFileCutShortAnywhere) {
  for (size_t size = 0; size < kSmallTokenizer.size(); ++size) {
    EXPECT_THAT([&] { Check(kSmallTokenizer.substr(0, size)); },
                ThrowsMessage<Error>(AllOf(HasSubstr("dir/tokenizer.json"),
                                           HasSubstr("not valid JSON"))))
        << size;
  }
}

TEST(CheckTokenizerJson, RefusesWhatIsNoJson) {
  const auto refuses = [](std::string_view text) {
    EXPECT_THAT([&] { Check(text); },
                ThrowsMessage<Error>(HasSubstr("not valid JSON")))
        << text;
  };
  refuses("garbage");
  refuses(With("\"ab\"", "\"\xFF\""));
  refuses(With("\"ab\"", "\"\\ud800\""));
  refuses(std::string(kSmallTokenizer) + "x");
  EXPECT_THAT([] { Check(std::string(kSmallTokenizer) + '\0'); },
              ThrowsMessage<Error>(HasSubstr("a zero byte")));
  EXPECT_THAT([] { Check("\xEF\xBB\xBF" + std::string(kSmallTokenizer)); },
              ThrowsMessage<Error>(HasSubstr("byte order mark")));
}

TEST(CheckTokenizerJson, SaysWhatIsWrong) {
  const std::pair<std::string, const char*> kCases[] = {
      {"{}", "has no section `model`"},
      {"[]", "the file is an array, expected an object"},
      {R"({"model_type": "llama"})", "a section \"model_type\""},
      {R"({"model": []})", "`model` is an array, expected an object"},
      {R"({"model": {"type": "BPE", "merges": []}})", "no `vocab`"},
      {R"({"model": {"type": "BPE", "vocab": {}}})", "no `merges`"},
      {R"({"model": {"type": "Unigram", "vocab": {}}})",
       "`vocab` of the Unigram model is an object"},
      {R"({"model": {"type": "BPE", "vocab": [], "merges": []}})",
       "`vocab` of the BPE model is an array"},
      {R"({"model": {"type": "Unigram", "vocab": [["a"]]}})",
       "has 1 members, expected 2"},
      {R"({"model": {"type": "Unigram", "vocab": [["a", "b"]]}})",
       "a score in `vocab` is a string"},
      {R"({"model": {"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1}})",
       "`unk_id` is 1 but `vocab` has 1 tokens"},
      {With("\"1.0\"", "\"2.0\""), "version \"2.0\", expected \"1.0\""},
      {With("\"BPE\"", "\"Tiktoken\""), "of type \"Tiktoken\""},
      {With("\"a\": 1", "\"a\": -1"), "token id -1"},
      {With("\"a\": 1", "\"a\": 2147483648"), "token id 2147483648"},
      {With("\"a\": 1", "\"a\": 18446744073709551615"), "out of range"},
      {With("\"a\": 1", "\"a\": 1.5"), "a token id in `vocab` is a number"},
      {With("\"a\": 1", "\"a\": {}"), "a token id in `vocab` is an object"},
      {With(R"([["a", "b"]])", R"(["ab"])"), "has the merge \"ab\""},
      {With(R"([["a", "b"]])", R"([["a", "b", "c"]])"), "has 3 members"},
      {With(R"([["a", "b"]])", R"([["a", 1]])"), "a token in `merges`"},
      {With(R"("lstrip": false,)", ""), "an added token has no `lstrip`"},
      {With(R"("special": true)", R"("special": 1)"),
       "`special` of an added token is an integer"},
      {With(R"("fuse_unk": false)", R"("fuse_unk": 0)"),
       "`fuse_unk` is an integer, expected a boolean or null"},
      {With(R"({"type": "NFC"})", "[]"), "`normalizer` is an array"},
  };
  for (const auto& [text, message] : kCases) {
    EXPECT_THAT([&text = text] { Check(text); },
                ThrowsMessage<Error>(AllOf(HasSubstr("dir/tokenizer.json: "),
                                           HasSubstr(message))))
        << text;
  }
}

TEST(CheckTokenizerJson, RefusesDeepNesting) {
  const std::string deep = R"({"normalizer": {"a": )" +
                           std::string(1000000, '[') +
                           std::string(1000000, ']') + "}}";
  EXPECT_THAT([&] { Check(deep); },
              ThrowsMessage<Error>(HasSubstr("nested deeper than 100")));
}

TEST(WithoutTruncationAndPadding, KeepsTheRest) {
  const std::string text = WithoutTruncationAndPadding(
      With("\"truncation\": null", "\"truncation\": {\"max_length\": 2}"));
  EXPECT_EQ(nlohmann::json::parse(text),
            nlohmann::json::parse(kSmallTokenizer));
}

}  // namespace
}  // namespace verify_tflite
