#include "verify/bundle_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>

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
  std::copy_if(v.bundle_checks.begin(), v.bundle_checks.end(),
               std::back_inserter(checks),
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
  EXPECT_EQ(v.findings[0].id, id);
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
  const auto found =
      std::find_if(v.bundle_checks.begin(), v.bundle_checks.end(),
                   [](const Check& c) { return c.name == "message_parts"; });
  return found == v.bundle_checks.end() ? nullptr : &*found;
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
  EXPECT_THAT(v.bundle_checks[2].detail, HasSubstr("One turn of the user"));
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
  EXPECT_THAT(Evidence(v), HasSubstr("for 1 of 31 texts"));
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
              HasSubstr("for 19 of 31 texts and 0 of 49152 pieces"));
  const Verification bytes = Compare("tiny_bytes.task");
  EXPECT_THAT(Evidence(bytes), AllOf(HasSubstr(why), HasSubstr("for 4 of 31")));
}

}  // namespace
}  // namespace verify_tflite
