// tokenizer.model against Python's SentencePiece and transformers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/json_file.h"
#include "base/testing.h"
#include "text/tokenizer.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Ids = std::vector<int32_t>;

class SentencePiece : public ::testing::TestWithParam<std::string> {};

TEST_P(SentencePiece, EncodesAsTransformersDoes) {
  const auto expected =
      ReadJsonFile(ExpectedPath("text/" + GetParam() + ".json"));
  const auto tokenizer = Tokenizer::Open(ModelPath(GetParam()));
  EXPECT_EQ(tokenizer.vocab_size(), 32002);
  EXPECT_EQ(tokenizer.TokenToId("</s>"), 2);
  EXPECT_EQ(tokenizer.TokenToId("<|user|>"), 32000);
  EXPECT_EQ(tokenizer.TokenToId("no such piece"), std::nullopt);
  ASSERT_GT(expected["samples"].size(), 300u);
  for (const auto& sample : expected["samples"]) {
    const std::string text = sample["text"];
    Ids ids = sample["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.Encode(text, false), ids) << text;
    ids.insert(ids.begin(), 1);
    EXPECT_EQ(tokenizer.Encode(text, true), ids) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SentencePiece,
                         ::testing::Values("llama2_model_legacy",
                                           "llama2_model_plain",
                                           "llama2_model_squeezed"),
                         [](const auto& info) { return info.param; });

// Models by litert-torch's conversion of a BPE tokenizer, ids by Python's
// SentencePiece (tools/containers.py).
TEST(PlainSentencePiece, EncodesAsPythonDoes) {
  for (const bool bytes : {false, true}) {
    const std::string directory = ModelPath(
        bytes ? "smollm2_sentencepiece_bytes" : "smollm2_sentencepiece");
    const auto tokenizer = Tokenizer::FromSentencePiece(
        ReadFile(directory + "/tokenizer.model"), directory, bytes);
    const auto samples = ReadJsonFile(directory + "/samples.json")["samples"];
    ASSERT_GT(samples.size(), 300u);
    for (const auto& sample : samples) {
      const std::string text = sample["text"];
      const Ids ids = sample["ids"].get<Ids>();
      EXPECT_EQ(tokenizer.Encode(text, true), ids) << text;
      if (bytes) {
        EXPECT_EQ(tokenizer.Decode(ids, true), text);
      }
    }
    EXPECT_EQ(tokenizer.TokenToId("<|im_end|>"), 2);
    EXPECT_EQ(tokenizer.TokenToId("no such piece"), std::nullopt);
  }
}

// "<s>" in a text is text, and a space in front is a piece's, as the runtimes
// of bundles have it.
TEST(PlainSentencePiece, TextHoldsNoSpecialTokens) {
  const auto tokenizer = Tokenizer::FromSentencePiece(
      ReadFile(ModelPath("llama2_model_legacy/tokenizer.model")), "m", false);
  EXPECT_EQ(tokenizer.vocab_size(), 32000);
  EXPECT_EQ(tokenizer.TokenToId("<s>"), 1);
  EXPECT_GT(tokenizer.Encode("<s>", true).size(), 2u);
  EXPECT_EQ(tokenizer.Decode(Ids{1, 15043, 13, 3186, -1, 40000}, true),
            "<s> Hello\n world");
  EXPECT_THAT([] { Tokenizer::FromSentencePiece("no model", "a.task", false); },
              ThrowsMessage<Error>(HasSubstr("a.task")));
}

// The same vocabulary as tokenizer.json: texts of the same ids are the same.
TEST(SentencePieceDecode, EqualsTheDecoderOfTokenizerJson) {
  const auto expected = ReadJsonFile(ExpectedPath("text/llama2.json"));
  const auto tokenizer = Tokenizer::Open(ModelPath("llama2_model_legacy"));
  for (const auto& sample : expected["samples"]) {
    const auto ids = sample["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.Decode(ids, false), sample["decoded"]);
    EXPECT_EQ(tokenizer.Decode(ids, true), sample["decoded_skip_special"]);
  }
  EXPECT_EQ(tokenizer.Decode(Ids{15043, 32000, -1, 40000, 3186}, false),
            "Hello<|user|> world");
  EXPECT_EQ(tokenizer.Decode(Ids{15043, 32000, 3186}, true), "Hello world");
}

TEST(SentencePieceConfig, AddedTokensHaveAFileOfTheirOwn) {
  const TempDir dir;
  std::filesystem::copy(ModelPath("llama2_model_legacy/tokenizer.model"),
                        dir.File("tokenizer.model"));
  dir.Write("tokenizer_config.json",
            R"({"tokenizer_class": "LlamaTokenizerFast",
                "add_bos_token": false, "add_eos_token": true})");
  dir.Write("added_tokens.json", R"({"<|x|>": 32005})");
  const auto tokenizer = Tokenizer::Open(dir.path());
  EXPECT_EQ(tokenizer.vocab_size(), 32006);
  EXPECT_EQ(tokenizer.Encode("<|x|>", true), (Ids{32005, 2}));
  dir.Write("added_tokens.json", R"({"<|x|>": "1"})");
  EXPECT_THAT([&] { Tokenizer::Open(dir.path()); },
              ThrowsMessage<Error>(HasSubstr("the id of \"<|x|>\"")));
}

struct Bad {
  const char* config;
  const char* message;
};

TEST(SentencePieceConfig, WhatIsNotDoneIsAnError) {
  const Bad cases[] = {
      {R"({"tokenizer_class": "T5Tokenizer"})",
       "tokenizer_class \"T5Tokenizer\" is not supported"},
      {R"({})", "tokenizer_class \"\" is not supported"},
      {R"({"tokenizer_class": "LlamaTokenizer", "legacy": 1})",
       "legacy is a JSON number"},
      {R"({"tokenizer_class": "LlamaTokenizer", "pad_token": "<pad>"})",
       "pad_token is \"<pad>\", which has no id"},
      {R"({"tokenizer_class": "GemmaTokenizer"})",
       "bos_token is \"<bos>\", which has no id"},
      {R"({"tokenizer_class": "LlamaTokenizer", "added_tokens_decoder":
           {"x": {"content": "a"}}})",
       "has the id -1"},
      {R"({"tokenizer_class": "LlamaTokenizer", "added_tokens_decoder":
           {"7": {"content": "a", "rstrip": true}}})",
       "has rstrip"},
      {R"({"tokenizer_class": "LlamaTokenizer", "added_tokens_decoder":
           {"7": {"content": "a"}, "8": {"content": "a"}}})",
       "has two ids"},
      {R"({"tokenizer_class": "LlamaTokenizer", "bos_token": 4})",
       "expected a token"},
  };
  const TempDir dir;
  std::filesystem::copy(ModelPath("llama2_model_legacy/tokenizer.model"),
                        dir.File("tokenizer.model"));
  EXPECT_THAT(
      [&] { Tokenizer::Open(dir.path()); },
      ThrowsMessage<Error>(HasSubstr("tokenizer_config.json: missing")));
  for (const Bad& bad : cases) {
    dir.Write("tokenizer_config.json", bad.config);
    EXPECT_THAT([&] { Tokenizer::Open(dir.path()); },
                ThrowsMessage<Error>(HasSubstr(bad.message)));
  }
  dir.Write("tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizer"})");
  dir.Write("tokenizer.model", "no model");
  EXPECT_THAT([&] { Tokenizer::Open(dir.path()); },
              ThrowsMessage<Error>(HasSubstr("not a SentencePiece model")));
}

}  // namespace
}  // namespace verify_tflite
