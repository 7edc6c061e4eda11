#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::ThrowsMessage;

constexpr std::string_view kTokens = R"({
  "bos_token": "<s>",
  "eos_token": {"__type": "AddedToken", "content": "</s>", "special": true},
  "pad_token": null,
  "image_token": "<image>",
  "add_bos_token": true
})";

class ChatTemplateTest : public ::testing::Test {
 protected:
  ChatTemplateTest() { dir_.Write("tokenizer_config.json", kTokens); }

  ChatTemplate Template(std::string_view source) {
    const std::string path = dir_.Write("chat_template.jinja", source);
    return ChatTemplate::FromFile(path, dir_.path());
  }
  std::string Render(std::string_view source, std::string_view message = "Hi") {
    return Template(source).Render(message);
  }
  void ExpectFailure(std::string_view source, std::string_view message) {
    EXPECT_THAT([&] { Render(source); },
                ThrowsMessage<Error>(
                    AllOf(HasSubstr("chat_template.jinja: the chat template"),
                          HasSubstr(std::string(message)))))
        << source;
  }

  TempDir dir_;
};

// Expected values as jinja2 3.1 gives them in transformers' environment.

TEST_F(ChatTemplateTest, RendersOneUserMessage) {
  EXPECT_EQ(
      Render("{% for m in messages %}<{{ m.role }}>{{ m['content'] }}"
             "{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"),
      "<user>Hi<bot>");
}

TEST_F(ChatTemplateTest, RendersSeveralMessages) {
  const ChatMessage messages[] = {{"system", "S"}, {"user", "U"}};
  EXPECT_EQ(Template("{% for m in messages %}{{ m.role[0] + m.content }};"
                     "{% endfor %}")
                .Render(messages),
            "sS;uU;");
}

TEST_F(ChatTemplateTest, KnowsTheSpecialTokens) {
  EXPECT_EQ(Render("{{ bos_token }}{{ eos_token }}{{ image_token }}"),
            "<s></s><image>");
  EXPECT_EQ(Render("{{ pad_token is defined }} {{ unk_token is defined }} "
                   "{{ add_bos_token is defined }}|{{ unk_token }}|"),
            "False False False||");
}

TEST_F(ChatTemplateTest, KnowsNoToolsAndNoDocuments) {
  EXPECT_EQ(Render("{{ tools is none }} {{ documents is none }}"
                   "{% if tools %}T{% endif %}"),
            "True True");
}

TEST_F(ChatTemplateTest, TrimsBlocksAsTransformersDoes) {
  EXPECT_EQ(Render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n\n"),
            "a\n  b\nc\n");
  EXPECT_EQ(Render("  {{- ' x ' -}}  \n y {#- note -#} \n z"), " x yz");
}

TEST_F(ChatTemplateTest, LeavesTheMessageAlone) {
  for (const std::string_view message :
       {"", "{{ bos_token }}{% if %}{# x", "<b>&amp;\"'</b>", " \r\n\t x \n",
        "日本語 😀", "\\n\\u0041"}) {
    EXPECT_EQ(Render("{{ messages[0].content }}", message), message);
  }
}

TEST_F(ChatTemplateTest, StripsWhatPythonStrips) {
  const std::string_view text = " \xE3\x80\x80\n\xC2\xA0x\xC2\xA0 ";
  EXPECT_EQ(Render("[{{ messages[0].content | trim }}]", text), "[x]");
  EXPECT_EQ(Render("[{{ messages[0]['content'].strip() }}]", text), "[x]");
  EXPECT_EQ(Render("[{{ messages[0].content.lstrip() }}]", text),
            "[x\xC2\xA0 ]");
  EXPECT_EQ(Render("[{{ messages[0].content.rstrip() }}]", text),
            "[ \xE3\x80\x80\n\xC2\xA0x]");
  EXPECT_EQ(Render("[{{ messages[0].content.strip('x') }}]", "x\xC2\xA0x"),
            "[\xC2\xA0]");
  EXPECT_EQ(Render("[{{ messages[0].content | trim }}]", "\xC2\xA0"), "[]");
}

TEST_F(ChatTemplateTest, ComparesTheMessage) {
  EXPECT_EQ(Render("{% set c = messages[0].content %}{{ c == 'Hi' }} "
                   "{{ c != 'Hi' }} {{ c == 'Ho' }} {{ 'H' in c }} "
                   "{{ c is string }} {{ c + '!' }} {{ c == 1 }} "
                   "{{ 'Hi' == c }}"),
            "True False False True True Hi! False True");
  EXPECT_EQ(Render("{{ messages[0].content == 'x\xC2\xA0' }}", "x\xC2\xA0"),
            "True");
}

TEST_F(ChatTemplateTest, KnowsTheDate) {
  EXPECT_THAT(Render("{{ strftime_now('%Y-%m-%d') }}"),
              MatchesRegex("20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]"));
}

TEST_F(ChatTemplateTest, TakesTheFileBeforeTheConfig) {
  dir_.Write(
      "tokenizer_config.json",
      R"({"bos_token": "<s>", "chat_template": "config {{ bos_token }}"})");
  EXPECT_EQ(ChatTemplate::FromCheckpoint(dir_.path())->Render("Hi"),
            "config <s>");
  dir_.Write("chat_template.jinja", "file {{ bos_token }}");
  EXPECT_EQ(ChatTemplate::FromCheckpoint(dir_.path())->Render("Hi"),
            "file <s>");
}

TEST_F(ChatTemplateTest, TakesTheDefaultOfAList) {
  dir_.Write("tokenizer_config.json", R"({"chat_template": [
      {"name": "tool_use", "template": "tool"},
      {"name": "default", "template": "plain"}]})");
  EXPECT_EQ(ChatTemplate::FromCheckpoint(dir_.path())->Render("Hi"), "plain");
}

TEST_F(ChatTemplateTest, RefusesAListWithoutDefault) {
  dir_.Write("tokenizer_config.json", R"({"chat_template": [
      {"name": "rag", "template": "x"}, {"name": 1}, 2]})");
  EXPECT_THAT([&] { ChatTemplate::FromCheckpoint(dir_.path()); },
              ThrowsMessage<Error>(AllOf(HasSubstr("tokenizer_config.json"),
                                         HasSubstr("found: \"rag\""))));
  dir_.Write("tokenizer_config.json", R"({"chat_template": {"a": "b"}})");
  EXPECT_THAT([&] { ChatTemplate::FromCheckpoint(dir_.path()); },
              ThrowsMessage<Error>(HasSubstr("`chat_template` is object")));
}

TEST_F(ChatTemplateTest, SaysWhenThereIsNone) {
  EXPECT_EQ(ChatTemplate::FromCheckpoint(dir_.path()), std::nullopt);
  dir_.Write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(ChatTemplate::FromCheckpoint(dir_.path()), std::nullopt);
  EXPECT_EQ(ChatTemplate::FromCheckpoint(dir_.File("absent")), std::nullopt);
}

TEST_F(ChatTemplateTest, ReadsTheTokensOfOlderCheckpoints) {
  dir_.Write("special_tokens_map.json", R"({"bos_token": "<old>"})");
  EXPECT_EQ(Render("{{ bos_token }}"), "<old>");
  dir_.Write("tokenizer_config.json",
             R"({"bos_token": "<new>", "added_tokens_decoder": {}})");
  EXPECT_EQ(Render("{{ bos_token }}"), "<new>");
  dir_.Write("tokenizer_config.json",
             R"({"extra_special_tokens": {"boi_token": "<boi>"}})");
  EXPECT_EQ(Render("{{ boi_token }}"), "<boi>");
}

TEST_F(ChatTemplateTest, RefusesFilesThatCannotBeRead) {
  EXPECT_THAT([&] { ChatTemplate::FromFile(dir_.File("absent"), dir_.path()); },
              ThrowsMessage<Error>(HasSubstr("absent: cannot open")));
  ExpectFailure("{{ 'x", "cannot be parsed");
  EXPECT_THAT([&] { Template("a\xFF"); },
              ThrowsMessage<Error>(HasSubstr("is not UTF-8 (byte 1)")));
  dir_.Write("tokenizer_config.json", "{");
  EXPECT_THAT([&] { Template("x"); },
              ThrowsMessage<Error>(HasSubstr("tokenizer_config.json: not "
                                             "valid JSON")));
}

TEST_F(ChatTemplateTest, NamesASyntaxErrorWhenItIsRead) {
  for (const char* source :
       {"{% if %}x{% endif %}", "{% for m in messages %}", "{{ 1 + }}",
        "{{ (1 }}", "{% endif %}", "{% nonsense %}", "{{ 'a' 'b }}", "{{", "{%",
        "{#", "{{ \"\\", "{{ x", "{{ [1, }}"}) {
    EXPECT_THAT([&] { Template(source); },
                ThrowsMessage<Error>(HasSubstr("cannot be parsed")))
        << source;
  }
}

TEST_F(ChatTemplateTest, PassesOnWhatTheTemplateRaises) {
  ExpectFailure("{{ raise_exception('only even turns') }}", "only even turns");
  ExpectFailure("{{ messages[0].content | no_such_filter }}", "no_such_filter");
  ExpectFailure("{{ nothing() }}", "not a function");
}

TEST_F(ChatTemplateTest, RefusesAMessageThatIsNotUtf8) {
  EXPECT_THAT([&] { Render("{{ messages[0].content }}", "a\xC3"); },
              ThrowsMessage<Error>(HasSubstr("user message is not UTF-8: "
                                             "byte 1")));
  EXPECT_THAT([&] { Render("{{ messages[0].content[0] }}", "é"); },
              ThrowsMessage<Error>(HasSubstr("inside a character")));
}

// The address sanitizer does not survive a failed allocation.
#ifndef __SANITIZE_ADDRESS__
TEST_F(ChatTemplateTest, EndsWhatNeedsTooMuchMemory) {
  ExpectFailure("{% for i in range(1000000000) %}{% endfor %}",
                "too much memory");
  ExpectFailure("{{ 'x' * 1000000000000 }}", "too much memory");
}
#endif

TEST_F(ChatTemplateTest, EndsWhatWouldNotEnd) {
  ExpectFailure(
      "{% for i in range(20000) %}{% for j in range(20000) %}"
      "{% endfor %}{% endfor %}",
      "took more than 2 s");
  ExpectFailure("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
                "it crashed");
}

TEST_F(ChatTemplateTest, SurvivesDeepNesting) {
  const int depth = 1000000;
  const std::string deep =
      "{{ " + std::string(depth, '(') + "1" + std::string(depth, ')') + " }}";
  EXPECT_THAT([&] { Template(deep); },
              ThrowsMessage<Error>(HasSubstr("cannot be parsed")));
}

// What LiteRT-LM renders (tools/record_litert_lm.py). Where that is no prompt
// of the message, neither is ours: both engines put parts into text, but not
// alike.
TEST(ChatTemplateParts, AreAsInLiteRtLm) {
  const auto recorded =
      nlohmann::json::parse(ReadFile(TestDataPath("litert_lm_templates.json")));
  const ChatMessage message = {"user", recorded["message"]};
  const std::span<const ChatMessage> messages(&message, 1);
  int same = 0;
  for (const auto& expected : recorded["cases"]) {
    SCOPED_TRACE(expected.dump());
    const auto found =
        ChatTemplate::FromSource(expected["template"], "the template");
    std::string text;
    try {
      text = found.Render(messages, {.form = ContentForm::kParts});
    } catch (const Error&) {
    }
    const std::string theirs =
        expected["rendered"].is_null() ? "" : expected["rendered"];
    if (theirs.find('{') == std::string::npos && !theirs.empty()) {
      EXPECT_EQ(text, theirs);
      ++same;
    } else {
      EXPECT_NE(text, found.Render(messages));
    }
  }
  EXPECT_EQ(same, 7);
}

// What transformers renders (tools/record_chats.py).
class RecordedChats : public ::testing::TestWithParam<std::string> {
 protected:
  using Json = nlohmann::ordered_json;

  RecordedChats()
      : recorded_(Json::parse(ReadFile(TestDataPath("chats.json")))) {
    dir_.Write("tokenizer_config.json",
               R"({"bos_token": "<s>", "eos_token": "</s>"})");
    source_ = recorded_["templates"][GetParam()];
  }

  ChatTemplate Template() {
    return ChatTemplate::FromFile(dir_.Write("chat_template.jinja", source_),
                                  dir_.path());
  }

  static std::vector<ChatMessage> Messages(const Json& chat) {
    std::vector<ChatMessage> messages;
    for (const Json& message : chat["messages"]) {
      Json fields = message;
      fields.erase("role");
      fields.erase("content");
      messages.push_back({message["role"], message["content"],
                          fields.empty() ? "" : fields.dump()});
    }
    return messages;
  }

  // Empty where an error is thrown.
  static std::optional<std::string> Render(const ChatTemplate& chat_template,
                                           const Json& chat,
                                           std::optional<ContentForm> form) {
    const RenderOptions options = {
        .form = form,
        .tools = chat.contains("tools") ? chat["tools"].dump() : "",
        .continues = chat.contains("continues")};
    try {
      return chat_template.Render(Messages(chat), options);
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  static std::optional<std::string> Text(const Json& rendered) {
    if (rendered.is_null()) return std::nullopt;
    return rendered.get<std::string>();
  }

  TempDir dir_;
  Json recorded_;
  std::string source_;
};

TEST_P(RecordedChats, AreTransformers) {
  const ChatTemplate chat_template = Template();
  const bool of_parts = GetParam() == "parts" || GetParam() == "first_part";
  EXPECT_EQ(chat_template.form(),
            of_parts ? ContentForm::kParts : ContentForm::kText);
  int compared = 0;
  for (size_t i = 0; i < recorded_["chats"].size(); ++i) {
    const Json& chat = recorded_["chats"][i];
    SCOPED_TRACE(chat["name"]);
    const Json& rendered = recorded_["rendered"][GetParam()][i];
    const auto expected = Text(rendered[of_parts ? "parts" : "text"]);
    EXPECT_EQ(Render(chat_template, chat, std::nullopt), expected);
    if (expected) ++compared;
  }
  EXPECT_GE(compared, 5);
}

INSTANTIATE_TEST_SUITE_P(Templates, RecordedChats,
                         ::testing::Values("chatml", "thoughts", "llama",
                                           "gemma", "gemma_parts", "mistral",
                                           "parts", "first_part", "phi",
                                           "macro"),
                         [](const auto& info) { return info.param; });

// Of a list of parts, a template that takes both makes what it makes of text.
TEST(RecordedForms, TemplatesForBoth) {
  // gemma_parts only: the others put the list itself into the prompt.
  const auto recorded =
      nlohmann::ordered_json::parse(ReadFile(TestDataPath("chats.json")));
  const auto found = ChatTemplate::FromSource(
      "<s>" + recorded["templates"]["gemma_parts"].get<std::string>(), "it");
  const ChatMessage message = {"user", "What is AI?"};
  const std::string expected = recorded["rendered"]["gemma_parts"][0]["parts"];
  EXPECT_EQ(found.Render(std::span(&message, 1), {.form = ContentForm::kParts}),
            expected);
}

}  // namespace
}  // namespace verify_tflite
