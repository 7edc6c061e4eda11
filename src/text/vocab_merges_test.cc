// vocab.json with merges.txt against what tools/record_vocab_merges.py recorded
// from transformers.
#include "text/vocab_merges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "text/tokenizer.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

using Ids = std::vector<int32_t>;

class VocabMerges : public ::testing::Test {
 protected:
  VocabMerges()
      : recorded_(nlohmann::json::parse(
            ReadFile(TestDataPath("vocab_merges.json")))) {
    dir_.Write("vocab.json", recorded_["vocab"].dump());
    std::string merges = "#version: 0.2\n";
    for (const std::string merge : recorded_["merges"]) merges += merge + "\n";
    dir_.Write("merges.txt", merges);
  }

  void WriteClass(const std::string& name) {
    dir_.Write("tokenizer_config.json",
               nlohmann::json{{"tokenizer_class", name}}.dump());
  }
  void ExpectError(const std::string& one, const std::string& other) {
    EXPECT_THAT([&] { Tokenizer::Open(dir_.path()); },
                ThrowsMessage<Error>(AllOf(HasSubstr(one), HasSubstr(other))));
  }

  TempDir dir_;
  nlohmann::json recorded_;
};

TEST_F(VocabMerges, AreReadAsTransformersReadsThem) {
  for (const auto& expected : recorded_["cases"]) {
    SCOPED_TRACE(expected["files"].dump());
    for (const auto& [name, content] : expected["files"].items()) {
      dir_.Write(name, content.dump());
    }
    const Tokenizer tokenizer = Tokenizer::Open(dir_.path());
    EXPECT_EQ(tokenizer.vocab_size(), expected["size"]);
    for (size_t i = 0; i < recorded_["texts"].size(); ++i) {
      const std::string text = recorded_["texts"][i];
      const auto ids = expected["ids"][i].get<Ids>();
      EXPECT_EQ(tokenizer.Encode(text, false), ids) << text;
      EXPECT_EQ(tokenizer.Encode(text, true),
                expected["ids_with_special"][i].get<Ids>())
          << text;
      EXPECT_EQ(tokenizer.Decode(ids, true), expected["decoded"][i]) << text;
    }
    for (const auto& [name, content] : expected["files"].items()) {
      std::filesystem::remove(dir_.File(name));
    }
  }
}

TEST_F(VocabMerges, AnotherClassIsNamedWithWhatToDo) {
  WriteClass("CodeGenTokenizer");
  ExpectError("tokenizer_class \"CodeGenTokenizer\" is not supported with",
              "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)");
  dir_.Write("tokenizer_config.json", "{}");
  ExpectError("tokenizer_class (none)", "save_pretrained");
  std::filesystem::remove(dir_.File("tokenizer_config.json"));
  ExpectError("tokenizer_config.json: missing", "save_pretrained");
}

TEST_F(VocabMerges, AMissingPartIsNamed) {
  WriteClass("GPT2Tokenizer");
  std::filesystem::remove(dir_.File("merges.txt"));
  ExpectError("merges.txt: missing", "save_pretrained");
}

// The library would end the process.
TEST_F(VocabMerges, MergesThatFitNoVocabularyAreRefused) {
  WriteClass("GPT2Tokenizer");
  dir_.Write("merges.txt", "#version: 0.2\nt h\nth qq\n");
  ExpectError("merges.txt: line 3 needs the token \"qq\"", "vocab.json");
  dir_.Write("merges.txt", "t h\nt\n");
  ExpectError("merges.txt: line 2 is \"t\"", "expected two tokens");
  dir_.Write("vocab.json", "[]");
  ExpectError("vocab.json", "object");
}

TEST_F(VocabMerges, SettingsThatAreNotDoneAreRefused) {
  dir_.Write("tokenizer_config.json",
             R"({"tokenizer_class": "GPT2Tokenizer",
                 "split_special_tokens": true})");
  ExpectError("split_special_tokens is not supported", "save_pretrained");
  dir_.Write("tokenizer_config.json",
             R"({"tokenizer_class": "GPT2Tokenizer",
                 "image_token": "<image>", "audio_token": "<audio>"})");
  ExpectError("\"image_token\" and others have no id", "save_pretrained");
}

}  // namespace
}  // namespace verify_tflite
