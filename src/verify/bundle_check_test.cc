#include "verify/bundle_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "candidate/model.h"
#include "text/eos.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Verification Compare(const std::string& name, const std::string& directory) {
  const Model model = Model::Open(ModelPath(name));
  const Tokenizer tokenizer = Tokenizer::Open(directory);
  const auto eos_ids = ReadEosIds(directory, tokenizer).ids;
  const auto chat_template = ChatTemplate::FromCheckpoint(directory);
  Verification v;
  v.model = model.info();
  CheckBundle({*model.bundle(), directory, tokenizer, eos_ids,
               chat_template ? &*chat_template : nullptr},
              v);
  return v;
}

Verification Compare(const std::string& name) {
  return Compare(name, ModelPath("tiny"));
}

// Of all bundle checks but `message_parts`, which is about LiteRT-LM, not about
// the checkpoint.
std::vector<Check> Checks(const Verification& v) {
  std::vector<Check> checks;
  std::ranges::copy_if(
      v.checks[CheckGroup::kBundle], std::back_inserter(checks),
      [](const Check& c) { return c.name != "message_parts"; });
  return checks;
}

std::string Evidence(const Verification& v) {
  std::string text;
  for (const Finding& f : v.findings) text += f.sentence + "\n" + f.evidence;
  return text;
}

// Expects that one check and finding of four, the others passed.
void ExpectOnly(const Verification& v, const std::string& check,
                const std::string& id, const std::string& evidence) {
  for (const Check& c : Checks(v)) {
    EXPECT_EQ(c.outcome, c.name == check ? Outcome::kBroken : Outcome::kPass)
        << c.name;
  }
  EXPECT_EQ(Checks(v).size(), 4u);
  ASSERT_EQ(v.findings.size(), 1u) << Evidence(v);
  EXPECT_EQ(NameOf(v.findings[0].id), id);
  EXPECT_THAT(v.findings[0].evidence, HasSubstr(evidence));
}

void ExpectSame(const Verification& v) {
  EXPECT_THAT(v.findings, IsEmpty()) << Evidence(v);
  ASSERT_EQ(Checks(v).size(), 4u);
  for (const Check& c : Checks(v)) {
    EXPECT_EQ(c.outcome, Outcome::kPass) << c.name;
  }
}

TEST(BundleCheck, ASoundBundle) { ExpectSame(Compare("tiny_bundle.litertlm")); }

// As converters write them: the EOS token and what a template puts behind it.
TEST(BundleCheck, StopTokensAsText) {
  ExpectSame(Compare("tiny_bundle_stop_text.litertlm"));
}

TEST(BundleCheck, AnotherStopToken) {
  const Verification v = Compare("tiny_bundle_wrong_stop.litertlm");
  ExpectOnly(v, "stop_tokens", "stop-token-differs",
             "only the checkpoint stops at: 2 \"<|im_end|>\"\n"
             "only the bundle stops at: 0 \"<|endoftext|>\"");
}

TEST(BundleCheck, AStartTokenOnTop) {
  ExpectOnly(Compare("tiny_bundle_wrong_start.litertlm"), "start_token",
             "start-token-differs", "start token \"<|im_start|>\", then");
}

TEST(BundleCheck, AnotherPadTokenThanTheGraphs) {
  const std::string directory = ModelPath("text_lfm2");
  const Verification v = Compare("mut_lfm2_pad.litertlm", directory);
  ASSERT_EQ(v.findings.size(), 1u) << Evidence(v);
  EXPECT_EQ(NameOf(v.findings[0].id), "pad-token-differs");
  EXPECT_EQ(v.findings[0].evidence,
            "the model's graph: 7 \"<gh_stars>\"\n"
            "bundle: 0 \"<|endoftext|>\"");
  // As export_hf makes it, but for its start token.
  for (const Check& check : Checks(Compare("lfm2_hf.litertlm", directory))) {
    EXPECT_EQ(check.outcome == Outcome::kPass, check.name != "start_token")
        << check.name;
  }
}

// SmolLM2's template writes BOS as text, and export_hf names it as the start
// token all the same. litert-lm-api 0.18.1 then feeds it twice: a conversation
// of n template tokens counts n + 1.
TEST(BundleCheck, WhatTheConverterMakesOfSmolLm2) {
  ExpectOnly(Compare("tiny_export_hf.litertlm"), "start_token",
             "start-token-differs", "start token \"<|im_start|>\", then");
}

TEST(BundleCheck, AnotherTemplate) {
  for (const char* name : {"tiny_bundle_wrong_template.litertlm",
                           "tiny_bundle_affixes.litertlm"}) {
    ExpectOnly(Compare(name), "chat_template", "template-differs",
               "bundle: \"<|im_start|>user\\nWhat is AI?");
  }
}

TEST(BundleCheck, AnotherTokenizer) {
  ExpectOnly(Compare("tiny_bundle_wrong_tokenizer.litertlm"), "tokenizer",
             "tokenizer-differs",
             "\"Hello, world!\" is 19556 28 905 17\n"
             "bundle: 15043 29892 3186 29991");
}

// The tiny checkpoint with another template.
class WithTemplate {
 public:
  explicit WithTemplate(const std::string& source) {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json",
                             "generation_config.json"}) {
      std::filesystem::copy(ModelPath("tiny") + "/" + name, dir_.path());
    }
    if (!source.empty()) dir_.Write("chat_template.jinja", source);
  }
  std::string path() const { return dir_.path(); }

 private:
  TempDir dir_;
};

constexpr const char* kTurns =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant";

TEST(BundleCheck, TheSameTemplateInOtherWords) {
  ExpectSame(Compare("tiny_bundle_wrong_template.litertlm",
                     WithTemplate(kTurns).path()));
}

TEST(BundleCheck, BosOfTheTemplateMissing) {
  const WithTemplate checkpoint(std::string("<|endoftext|>") + kTurns);
  const Verification v =
      Compare("tiny_bundle_wrong_template.litertlm", checkpoint.path());
  ExpectOnly(v, "start_token", "bos-missing",
             "checkpoint: the prompt begins \"<|endoftext|><|im_start|>user");
}

TEST(BundleCheck, TextThatIsMissingIsNoBos) {
  const WithTemplate checkpoint(std::string("Answer: ") + kTurns);
  const Verification v =
      Compare("tiny_bundle_wrong_template.litertlm", checkpoint.path());
  ExpectOnly(v, "chat_template", "template-differs", "checkpoint: \"Answer: ");
}

TEST(BundleCheck, OnlyLaterTurnsDiffer) {
  const WithTemplate checkpoint(
      "{% for m in messages %}{% if loop.index > 1 %}X{% endif %}"
      "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      "<|im_start|>assistant");
  const Verification v =
      Compare("tiny_bundle_wrong_template.litertlm", checkpoint.path());
  ASSERT_EQ(v.findings.size(), 1u);
  EXPECT_THAT(v.findings[0].sentence, HasSubstr("for system and user"));
}

TEST(BundleCheck, ATemplateThatRefusesSystemMessages) {
  const WithTemplate checkpoint(
      std::string("{% if messages[0].role == 'system' %}"
                  "{{ raise_exception('no system') }}{% endif %}") +
      kTurns);
  const Verification v =
      Compare("tiny_bundle_wrong_template.litertlm", checkpoint.path());
  ASSERT_EQ(v.findings.size(), 1u);
  EXPECT_EQ(v.findings[0].sentence,
            "Only the checkpoint's chat template refuses system and user.");
}

TEST(BundleCheck, ACheckpointWithoutTemplate) {
  const WithTemplate checkpoint("");
  ExpectOnly(Compare("tiny_bundle.litertlm", checkpoint.path()),
             "chat_template", "template-differs",
             "checkpoint: \"What is AI?\"\nbundle: \"<|im_start|>system");
}

const Check* Parts(const Verification& v) {
  return FindCheck(v.checks[CheckGroup::kBundle], "message_parts");
}

// litert-lm-api 0.18.1 refuses every message to these bundles: "tried to use +
// operator on unsupported types string and sequence".
TEST(BundleCheck, PartsThatTheTemplateCannotDo) {
  for (const char* name : {"tiny_bundle.litertlm", "tiny_export_hf.litertlm"}) {
    const Verification v = Compare(name);
    ASSERT_NE(Parts(v), nullptr);
    EXPECT_EQ(Parts(v)->outcome, Outcome::kNotChecked);
    EXPECT_THAT(Parts(v)->detail,
                AllOf(HasSubstr("LiteRT-LM 0.18.1 gives templates"),
                      HasSubstr("for one user turn")));
  }
  EXPECT_EQ(Parts(Compare("tiny_bundle_affixes.litertlm")), nullptr);
}

// Of plain text, that template makes prompts without it.
TEST(BundleCheck, ATemplateForPartsAlone) {
  const Verification v = Compare("tiny_bundle_parts.litertlm");
  ExpectSame(v);
  ASSERT_NE(Parts(v), nullptr);
  EXPECT_EQ(Parts(v)->outcome, Outcome::kPass);
}

// kTurns, for content that is a list of parts.
constexpr const char* kPartsOfTurns =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";

TEST(BundleCheck, ACheckpointsTemplateForPartsAlone) {
  const WithTemplate checkpoint(kPartsOfTurns);
  ExpectSame(Compare("tiny_bundle_wrong_template.litertlm", checkpoint.path()));
  // SmolLM2's writes a system turn of its own.
  ExpectOnly(Compare("tiny_bundle.litertlm", checkpoint.path()),
             "chat_template", "template-differs",
             "bundle: \"<|im_start|>system");
  // Both take parts alone.
  ExpectOnly(Compare("tiny_bundle_parts.litertlm", checkpoint.path()),
             "chat_template", "template-differs",
             "bundle: \"<|im_start|>system");
}

// The bundle's template is kTurns with a line break at its end.
struct Change {
  const char* chat;
  const char* checkpoint;  // a template that differs for that chat alone
};
class TemplatesApart : public ::testing::TestWithParam<Change> {};

TEST_P(TemplatesApart, AreFound) {
  const WithTemplate checkpoint(GetParam().checkpoint);
  const Verification v =
      Compare("tiny_bundle_wrong_template.litertlm", checkpoint.path());
  ASSERT_EQ(v.findings.size(), 1u) << Evidence(v);
  EXPECT_EQ(v.findings[0].id, FindingId::kTemplateDiffers);
  EXPECT_EQ(v.findings[0].sentence,
            std::string("The bundle's chat template renders another prompt "
                        "for ") +
                GetParam().chat + ".");
}

constexpr Change kChanges[] = {
    {"texts with blanks and line breaks at their ends",
     "{% for m in messages %}<|im_start|>{{ m.role }}\n"
     "{{ m.content | trim }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"},
    {"a system turn with blanks and line breaks at its ends",
     "{% for m in messages %}<|im_start|>{{ m.role }}\n"
     "{{ m.content | trim if m.role == 'system' else m.content }}<|im_end|>\n"
     "{% endfor %}<|im_start|>assistant\n"},
    {"an empty system turn",
     "{% for m in messages %}{% if m.content or m.role != 'system' %}"
     "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
     "{% endfor %}<|im_start|>assistant\n"},
    {"a list of tools",
     "{% if tools %}{{ tools | tojson }}{% endif %}"
     "{% for m in messages %}<|im_start|>{{ m.role }}\n"
     "{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"},
    {"a list of tools and a system turn",
     "{% if tools and messages[0].role == 'system' %}{{ tools | tojson }}"
     "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
     "{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"},
    {"a call of a tool",
     "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
     "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% endif %}"
     "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"},
    {"an answer to be continued",
     "{% for m in messages %}<|im_start|>{{ m.role }}\n"
     "{% if loop.last and m.role == 'assistant' %}<think>{% endif %}"
     "{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"},
};

INSTANTIATE_TEST_SUITE_P(Chats, TemplatesApart, ::testing::ValuesIn(kChanges));

// Such chats are none of the checkpoint's.
TEST(BundleCheck, AChatThatTheCheckpointRefusesHoldsNoBundle) {
  const WithTemplate checkpoint(
      std::string("{% if tools or not messages[0].content.strip() or "
                  "messages[-1].role == 'assistant' %}"
                  "{{ raise_exception('no') }}{% endif %}") +
      kTurns);
  ExpectSame(Compare("tiny_bundle_wrong_template.litertlm", checkpoint.path()));
}

// Prefixes and suffixes can do none of that, which is said.
TEST(TaskCheck, PlainTurnsAlone) {
  const Verification v =
      Compare("tiny_bundle_affixes.litertlm",
              WithTemplate("{% if tools %}{{ tools }}{% endif %}"
                           "{% for m in messages %}<|im_start|>"
                           "{{ m.role }}\n{{ m.content | trim }}"
                           "<|im_end|>\n{% endfor %}"
                           "<|im_start|>assistant\n{{ '' }}")
                  .path());
  ExpectSame(v);
  EXPECT_THAT(v.checks[CheckGroup::kBundle][2].detail,
              HasSubstr("neither trim texts nor"));
}

// The tiny checkpoint with another EOS in generation_config.json, and
// tokenizer_config.json's as given.
Verification CompareWithEos(const std::string& name, int eos,
                            const std::string& tokenizers_eos,
                            const std::string& source) {
  TempDir dir;
  std::filesystem::copy(ModelPath("tiny") + "/tokenizer.json", dir.path());
  dir.Write("generation_config.json",
            "{\"eos_token_id\": " + std::to_string(eos) + "}");
  dir.Write("tokenizer_config.json",
            "{\"eos_token\": \"" + tokenizers_eos + "\"}");
  dir.Write("chat_template.jinja", source);
  return Compare(name, dir.path());
}

// Qwen's base models: "<|endoftext|>" ends texts, "<|im_end|>" ends turns.
TEST(BundleCheck, AnExtraStopAtTheEndOfTurnsIsANote) {
  for (const char* file :
       {"tiny_bundle.litertlm", "tiny_bundle_stop_text.litertlm"}) {
    // Of the configurations' EOS, neither is there.
    const Verification v = CompareWithEos(file, 0, "<|endoftext|>", kTurns);
    ASSERT_FALSE(v.findings.empty());
    EXPECT_EQ(v.findings[0].sentence,
              "The bundle goes on where the checkpoint ends its text.");
    EXPECT_EQ(v.findings[0].evidence,
              "only the checkpoint stops at: 0 \"<|endoftext|>\"\n");
    EXPECT_THAT(
        v.notes,
        ElementsAre(HasSubstr(
            "also ends texts at 2 \"<|im_end|>\", with which the checkpoint's "
            "chat template ends a turn; the checkpoint's EOS is 0")));
  }
}

TEST(BundleCheck, AnExtraStopAtTheTokenizersEosIsANote) {
  const Verification v = CompareWithEos("tiny_bundle.litertlm", 0, "<|im_end|>",
                                        "{{ messages[0].content }}");
  EXPECT_THAT(v.notes, ElementsAre(HasSubstr("the eos_token of the")));
}

TEST(BundleCheck, AnyOtherExtraStopIsAFinding) {
  const Verification v = CompareWithEos(
      "tiny_bundle.litertlm", 0, "<|endoftext|>", "{{ messages[0].content }}");
  EXPECT_THAT(v.notes, IsEmpty());
  EXPECT_THAT(Evidence(v),
              HasSubstr("only the bundle stops at: 2 \"<|im_end|>\""));
}

// As export_hf packs a checkpoint with one EOS and another end of turns.
TEST(BundleCheck, WhatTheConverterMakesOfABaseModelsEos) {
  const Verification v =
      Compare("tiny_base_eos.litertlm", ModelPath("tiny_base_eos"));
  ExpectSame(v);
  EXPECT_THAT(v.notes, ElementsAre(HasSubstr("2 \"<|im_end|>\"")));
}

// The tiny checkpoint with a changed tokenizer.json.
Verification CompareWithTokenizer(
    const std::function<void(nlohmann::json&)>& change) {
  TempDir dir;
  std::filesystem::copy(ModelPath("tiny"), dir.path(),
                        std::filesystem::copy_options::recursive);
  auto tokenizer = nlohmann::json::parse(ReadFile(dir.File("tokenizer.json")));
  change(tokenizer);
  dir.Write("tokenizer.json", tokenizer.dump());
  return Compare("tiny_bundle.litertlm", dir.path());
}

TEST(BundleCheck, TheSameTokenizerInOtherWords) {
  ExpectSame(CompareWithTokenizer([](nlohmann::json& tokenizer) {
    for (auto& merge : tokenizer["model"]["merges"]) {
      if (merge.is_array()) {
        merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
      }
    }
  }));
}

TEST(BundleCheck, ATokenizerWithMoreMerges) {
  const Verification v = CompareWithTokenizer([](nlohmann::json& tokenizer) {
    auto& merges = tokenizer["model"]["merges"];
    merges.erase(merges.end() - 100, merges.end());
  });
  ExpectOnly(v, "tokenizer", "tokenizer-differs", " is ");
  EXPECT_THAT(Evidence(v),
              HasSubstr("for 0 of 31 texts, 0 of 49152 tokens and 100 of "));
}

// Of a word that is a token, such a tokenizer asks no merges.
TEST(BundleCheck, ATokenizerWithMoreMergesThatItIgnoresForTokens) {
  const Verification v = Compare("mut_bundle_ignore_merges.litertlm",
                                 ModelPath("mut_ignore_fewer_merges"));
  ExpectOnly(v, "tokenizer", "tokenizer-differs", " is ");
  EXPECT_THAT(Evidence(v), HasSubstr("for 0 of 31 texts, 0 of 49152 tokens"));
  ExpectSame(Compare("mut_bundle_ignore_merges.litertlm",
                     ModelPath("mut_ignore_merges")));
}

// Llama 2's tokenizer.model as a checkpoint's, with a template.
class Llama2Checkpoint {
 public:
  explicit Llama2Checkpoint(
      const std::string& source = kHeadings,
      const std::string& tokenizer = "llama2_model_legacy") {
    std::filesystem::copy(ModelPath(tokenizer), dir_.path());
    if (!source.empty()) dir_.Write("chat_template.jinja", source);
  }
  std::string path() const { return dir_.path(); }

  static constexpr const char* kHeadings =
      "<s>{% for m in messages %}### {{ m.role | title }}:\n"
      "{{ m.content }}\n{% endfor %}### Assistant:{{ '\n' }}";

 private:
  TempDir dir_;
};

TEST(TaskCheck, ASoundFile) {
  const Llama2Checkpoint checkpoint;
  ExpectSame(Compare("tiny.task", checkpoint.path()));
  ExpectSame(Compare("tiny_llm_metadata.task", checkpoint.path()));
}

// The template without roles is held to one turn, and that is said.
TEST(TaskCheck, ATemplateForOneTurn) {
  const Verification v = Compare("tiny_ids.task", Llama2Checkpoint().path());
  ExpectSame(v);
  EXPECT_THAT(v.checks[CheckGroup::kBundle][2].detail,
              HasSubstr("One turn of the user"));
}

TEST(TaskCheck, AnotherStopToken) {
  ExpectOnly(Compare("tiny_wrong_stop.task", Llama2Checkpoint().path()),
             "stop_tokens", "stop-token-differs",
             "only the checkpoint stops at: 2 \"</s>\"\n"
             "only the bundle stops at: 0 \"<unk>\"");
}

TEST(TaskCheck, AnotherTemplate) {
  const Llama2Checkpoint checkpoint("<s>{{ messages[0].content }}");
  ExpectOnly(Compare("tiny.task", checkpoint.path()), "chat_template",
             "template-differs", "bundle: \"<s>### User:\\nWhat is AI?");
}

TEST(TaskCheck, AStartTokenThatTheCheckpointLacks) {
  const Llama2Checkpoint checkpoint(Llama2Checkpoint::kHeadings + 3);
  ExpectOnly(Compare("tiny.task", checkpoint.path()), "start_token",
             "start-token-differs", "start token \"<s>\"");
}

// Same pieces, other normalisation: only ids show it.
TEST(TaskCheck, ATokenizerThatDropsSpaces) {
  ExpectOnly(Compare("tiny_wrong_tokenizer.task", Llama2Checkpoint().path()),
             "tokenizer", "tokenizer-differs", " leading and trailing ");
}

// "<|user|>" is a token of the checkpoint's, added to its vocabulary, and seven
// pieces of text to SentencePiece.
TEST(TaskCheck, AddedTokensInThePrompt) {
  const Llama2Checkpoint checkpoint(
      "<s><|user|>\n{{ messages[0].content }}\n<|assistant|>{{ '\n' }}");
  const Verification v = Compare("tiny_added_tokens.task", checkpoint.path());
  ExpectOnly(v, "tokenizer", "tokenizer-differs", "<|user|>");
  EXPECT_THAT(Evidence(v), HasSubstr("for 1 of 31 texts, 0 of"));
}

// The same vocabulary as tokenizer.json.
TEST(TaskCheck, TheCheckpointHasTokenizerJson) {
  const Llama2Checkpoint checkpoint(Llama2Checkpoint::kHeadings,
                                    "llama2_tokenizer");
  ExpectSame(Compare("tiny.task", checkpoint.path()));
}

// litert-torch's own conversion of a BPE tokenizer, as texts of tokens and in
// GPT-2's alphabet. Its authors, too, count texts that it splits in other ways;
// sentencepiece_test.cc has the ids from Python.
TEST(BundleCheck, ABpeTokenizerAsSentencePiece) {
  const std::string why = "is 11355 216 5600 28 256 1296\nbundle: 11355 256";
  const Verification texts = Compare("tiny_sentencepiece.litertlm");
  ExpectOnly(texts, "tokenizer", "tokenizer-differs", why);
  EXPECT_THAT(Evidence(texts),
              HasSubstr("for 19 of 31 texts, 0 of 49152 pieces and"));
  const Verification bytes = Compare("tiny_bytes.task");
  EXPECT_THAT(Evidence(bytes), AllOf(HasSubstr(why), HasSubstr("for 4 of 31")));
}

}  // namespace
}  // namespace verify_tflite
