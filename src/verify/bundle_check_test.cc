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
  const auto eos_ids = ReadEosIds(directory, tokenizer);
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

// Expects that one check and finding of four, the others passed.
void ExpectOnly(const Verification& v, const std::string& check,
                const std::string& id, const std::string& evidence) {
  for (const Check& c : Checks(v)) {
    EXPECT_EQ(c.outcome, c.name == check ? Outcome::kBroken : Outcome::kPass)
        << c.name;
  }
  EXPECT_EQ(Checks(v).size(), 4u);
  ASSERT_EQ(v.findings.size(), 1u);
  EXPECT_EQ(v.findings[0].id, id);
  EXPECT_THAT(v.findings[0].evidence, HasSubstr(evidence));
}

void ExpectSame(const Verification& v) {
  EXPECT_THAT(v.findings, IsEmpty());
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

}  // namespace
}  // namespace verify_tflite
