// Which of a checkpoint's files count, as transformers says
// (tools/record_sources.py).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "text/chat_template.h"
#include "text/eos.h"
#include "text/testing_tokenizer.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

class Checkpoint {
 public:
  explicit Checkpoint(const nlohmann::json& files) {
    dir_.Write("tokenizer.json", kSmallTokenizer);
    for (const auto& [name, content] : files.items()) {
      std::filesystem::create_directories(
          std::filesystem::path(dir_.File(name)).parent_path());
      dir_.Write(name, content.is_string() ? content.get<std::string>()
                                           : content.dump());
    }
  }
  std::string path() const { return dir_.path(); }

 private:
  TempDir dir_;
};

TEST(Sources, AreTransformers) {
  const auto cases =
      nlohmann::json::parse(ReadFile(TestDataPath("sources.json")));
  int eos = 0, templates = 0, errors = 0;
  for (const auto& expected : cases) {
    SCOPED_TRACE(expected.dump());
    const Checkpoint checkpoint(expected["files"]);
    if (expected.contains("eos")) {
      ++eos;
      EXPECT_EQ(
          ReadEosIds(checkpoint.path(), Tokenizer::Open(checkpoint.path())).ids,
          expected["eos"].get<std::vector<int32_t>>());
    } else if (expected.contains("error")) {
      ++errors;
      EXPECT_THAT([&] { ChatTemplate::FromCheckpoint(checkpoint.path()); },
                  ThrowsMessage<Error>(HasSubstr("has no default.jinja")));
    } else if (expected["template"].is_null()) {
      EXPECT_FALSE(ChatTemplate::FromCheckpoint(checkpoint.path()));
    } else {
      ++templates;
      const auto found = ChatTemplate::FromCheckpoint(checkpoint.path());
      ASSERT_TRUE(found);
      EXPECT_EQ(found->Render(""), expected["template"]);
    }
  }
  EXPECT_EQ(eos, 9);
  EXPECT_EQ(templates, 13);
  EXPECT_EQ(errors, 1);
}

TEST(Sources, AnEosThatIsNoTokenIsNamedWithItsPlace) {
  const Checkpoint checkpoint(nlohmann::json::parse(
      R"({"config.json": {"text_config": {"eos_token_id": 4}}})"));
  const EosIds eos =
      ReadEosIds(checkpoint.path(), Tokenizer::Open(checkpoint.path()));
  EXPECT_THAT(eos.ids, IsEmpty());
  EXPECT_THAT(eos.notes, ElementsAre(HasSubstr("text_config.eos_token_id")));
}

TEST(Sources, ATemplateIsNamedByItsFile) {
  const Checkpoint checkpoint(nlohmann::json::parse(
      R"({"chat_template.json": {"chat_template": "x"}})"));
  EXPECT_EQ(ChatTemplate::FromCheckpoint(checkpoint.path())->origin(),
            checkpoint.path() + "/chat_template.json");
  const Checkpoint wrong(
      nlohmann::json::parse(R"({"chat_template.json": {"chat_template": 1}})"));
  EXPECT_THAT([&] { ChatTemplate::FromCheckpoint(wrong.path()); },
              ThrowsMessage<Error>(HasSubstr(
                  "chat_template.json: `chat_template` is number, expected")));
}

}  // namespace
}  // namespace verify_tflite
