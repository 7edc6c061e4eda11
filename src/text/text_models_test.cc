// Real vocabularies and templates against what tools/record_expectations.py
// recorded from Python's tokenizers and transformers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"
#include "base/testing.h"
#include "text/chat_template.h"
#include "text/eos.h"
#include "text/tokenizer.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

using Ids = std::vector<int32_t>;

class Recorded : public ::testing::TestWithParam<std::string> {
 protected:
  nlohmann::json expected_ =
      ReadJsonFile(ExpectedPath("text/" + GetParam() + ".json"));
  std::string directory_ = ModelPath(expected_["model"].get<std::string>());
};

TEST_P(Recorded, EncodesAsPythonDoes) {
  const auto tokenizer = Tokenizer::Open(directory_);
  ASSERT_GT(expected_["samples"].size(), 300u);
  for (const auto& sample : expected_["samples"]) {
    const std::string text = sample["text"];
    EXPECT_EQ(tokenizer.Encode(text, false), sample["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer.Encode(text, true),
              sample["ids_with_special"].get<Ids>())
        << text;
  }
}

TEST_P(Recorded, DecodesAsPythonDoes) {
  const auto tokenizer = Tokenizer::Open(directory_);
  for (const auto& sample : expected_["samples"]) {
    const auto ids = sample["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.Decode(ids, false), sample["decoded"]);
    EXPECT_EQ(tokenizer.Decode(ids, true), sample["decoded_skip_special"]);
  }
}

TEST_P(Recorded, RendersChatsAsTransformersDoes) {
  const auto tokenizer = Tokenizer::Open(directory_);
  const auto chat_template = ChatTemplate::FromCheckpoint(directory_);
  ASSERT_TRUE(chat_template);
  int compared = 0;
  for (const auto& chat : expected_["chats"]) {
    if (chat["template"] != "default") continue;
    std::vector<ChatMessage> messages;
    for (const auto& message : chat["messages"]) {
      messages.push_back({message["role"], message["content"]});
    }
    const std::string prompt = chat_template->Render(messages);
    EXPECT_EQ(prompt, chat["rendered"]);
    EXPECT_EQ(tokenizer.Encode(prompt, false), chat["ids"].get<Ids>());
    ++compared;
  }
  EXPECT_GT(compared, 10);
}

TEST_P(Recorded, EncodesFromSeveralThreads) {
  const auto tokenizer = Tokenizer::Open(directory_);
  const auto encode_all = [&](int* differences) {
    for (const auto& sample : expected_["samples"]) {
      const std::string text = sample["text"];
      *differences += tokenizer.Encode(text, false) != sample["ids"].get<Ids>();
    }
  };
  int differences[2] = {0, 0};
  std::thread other(encode_all, &differences[0]);
  encode_all(&differences[1]);
  other.join();
  EXPECT_THAT(differences, ElementsAre(0, 0));
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, Recorded,
                         ::testing::Values("smollm2", "llama2"),
                         [](const auto& info) { return info.param; });

TEST(NamedTemplates, AnotherOneIsTakenFromAFile) {
  const auto expected = ReadJsonFile(ExpectedPath("text/llama2.json"));
  const std::string directory = ModelPath("llama2_tokenizer");
  const auto config = ReadJsonFile(directory + "/tokenizer_config.json");
  const TempDir dir;
  const std::string path =
      dir.Write("zephyr.jinja",
                config["chat_template"][1]["template"].get<std::string>());
  const auto chat_template = ChatTemplate::FromFile(path, directory);
  int compared = 0;
  for (const auto& chat : expected["chats"]) {
    if (chat["template"] != "zephyr" || chat["messages"].size() != 1) continue;
    EXPECT_EQ(
        chat_template.Render(chat["messages"][0]["content"].get<std::string>()),
        chat["rendered"]);
    ++compared;
  }
  EXPECT_GT(compared, 5);
}

TEST(SmolLM2, HasItsTokensAndEndsAtItsEndOfTurn) {
  const auto tokenizer = Tokenizer::Open(ModelPath("smollm2"));
  EXPECT_EQ(tokenizer.vocab_size(), 49152);
  EXPECT_EQ(tokenizer.TokenToId("<|im_end|>"), 2);
  EXPECT_EQ(tokenizer.TokenToId("<|no_such_token|>"), std::nullopt);
  EXPECT_EQ(tokenizer.TokenToId("\xFF"), std::nullopt);
  EXPECT_THAT(ReadEosIds(ModelPath("smollm2"), tokenizer).ids, ElementsAre(2));
}

}  // namespace
}  // namespace verify_tflite
