// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/testing.h"
#include "base/testing_zip.h"
#include "tflite/bundle.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::ThrowsMessage;

// Laid out as MediaPipe's bundler does; METADATA by the message's own
// descriptor (tools/record_task.py).
const std::string& Good() {
  static const std::string content = ReadFile(TestDataPath("small.task"));
  return content;
}

std::string_view Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Everything that a bundle can be asked.
void ReadAll(const TempDir& dir, const std::string& content) {
  const MappedFile file(dir.Write("a.task", content));
  const auto bundle = Bundle::Open(file);
  if (!bundle) throw Error("a.task: is no bundle");
  bundle->PrefillDecode();
  bundle->Embedder();
  bundle->ReadLlmMetadata();
  bundle->ReadHfTokenizer();
  bundle->SentencePieceModel();
}

void ExpectRefused(const std::string& content, const std::string& reason) {
  const TempDir dir;
  EXPECT_THAT(
      [&] { ReadAll(dir, content); },
      ThrowsMessage<Error>(AllOf(HasSubstr("a.task"), HasSubstr(reason))));
}

ZipOptions Aligned() {
  ZipOptions options;
  options.alignment = 4;
  return options;
}

LlmMetadata MetadataOf(const std::string& proto) {
  const TempDir dir;
  const MappedFile file(
      dir.Write("a.task", MakeZip({{"METADATA", proto}}, Aligned())));
  return Bundle::Open(file)->ReadLlmMetadata().value();
}

TEST(TaskBundle, EntriesAreSections) {
  const MappedFile file(TestDataPath("small.task"));
  ASSERT_EQ(Good().substr(0, 6), std::string("\0\0\0\0PK", 6));
  const auto bundle = Bundle::Open(file);
  ASSERT_TRUE(bundle.has_value());
  EXPECT_EQ(bundle->format(), BundleFormat::kTask);
  std::vector<std::pair<std::string, std::string>> found;
  for (const BundleSection& s : bundle->sections()) {
    EXPECT_EQ(s.bytes.data(), file.bytes().data() + s.begin);
    EXPECT_EQ(s.bytes.size(), s.end - s.begin);
    found.emplace_back(s.items[0].second, NameOf(s.type));
  }
  EXPECT_THAT(found, ElementsAre(Pair("TF_LITE_PREFILL_DECODE", "TFLiteModel"),
                                 Pair("TOKENIZER_MODEL", "SP_Tokenizer"),
                                 Pair("METADATA", "LlmMetadata"),
                                 Pair("TF_LITE_EMBEDDER", "TFLiteModel"),
                                 Pair("notes.txt", "GenericBinaryData")));
  EXPECT_EQ(Text(bundle->PrefillDecode().bytes),
            std::string_view("\x10\0\0\0TFL3 model", 14));
  EXPECT_EQ(bundle->Embedder(), &bundle->sections()[3]);
  EXPECT_EQ(bundle->Embedder("per_layer_embedder"), nullptr);
  EXPECT_EQ(bundle->SentencePieceModel(),
            "\n\x05\n\x03"
            "abc");
  EXPECT_FALSE(bundle->ReadHfTokenizer().has_value());
}

// Values as in tools/record_task.py.
TEST(TaskBundle, ReadsLlmParameters) {
  const MappedFile file(TestDataPath("small.task"));
  const auto m = Bundle::Open(file)->ReadLlmMetadata().value();
  EXPECT_EQ(m.max_num_tokens, 1280);
  EXPECT_EQ(m.start_token->text, "<bos>");
  ASSERT_EQ(m.stop_tokens.size(), 4u);
  EXPECT_EQ(m.stop_tokens[0].text, "<eos>");
  EXPECT_EQ(m.stop_tokens[1].text, "<end_of_turn>");
  EXPECT_THAT(m.stop_tokens[2].ids, ElementsAre(1));
  EXPECT_THAT(m.stop_tokens[3].ids, ElementsAre(300));
  EXPECT_TRUE(m.bytes_to_unicode);
  EXPECT_EQ(m.session_prefix, "Be brief. ü");
  EXPECT_EQ(m.user->prefix, "<user>");
  EXPECT_EQ(m.user->suffix, "</user>");
  EXPECT_EQ(m.model->prefix, "<model>");
  EXPECT_EQ(m.system->suffix, "</system>");
  // Said twice, and the roles say more.
  EXPECT_FALSE(m.single_turn.has_value());
}

TEST(TaskBundle, TheOlderTemplateKnowsNoRoles) {
  // stop_tokens = "e", prompt_template = { prompt_prefix = "p", prompt_suffix =
  // "s" }
  const LlmMetadata m = MetadataOf(
      "\x2a\x01"
      "e\x42\x06\x12\x01p\x1a\x01s");
  ASSERT_TRUE(m.single_turn.has_value());
  EXPECT_EQ(m.single_turn->prefix, "p");
  EXPECT_EQ(m.single_turn->suffix, "s");
  EXPECT_FALSE(m.user.has_value());
  EXPECT_FALSE(m.bytes_to_unicode);
}

// As LiteRT-LM does. prompt_template = { prompt_prefix = "p" },
// prompt_templates = { user_template = { prompt_prefix = "q" } }
TEST(TaskBundle, TheOlderTemplateWinsWhereTheTwoDiffer) {
  const LlmMetadata m = MetadataOf(
      "\x2a\x01"
      "e\x42\x03\x12\x01p\x8a\x01\x05\x0a\x03\x12\x01q");
  ASSERT_TRUE(m.single_turn.has_value());
  EXPECT_EQ(m.single_turn->prefix, "p");
  EXPECT_FALSE(m.user.has_value());
  const LlmMetadata same = MetadataOf(
      "\x2a\x01"
      "e\x42\x03\x12\x01p\x8a\x01\x05\x0a\x03\x12\x01p");
  EXPECT_FALSE(same.single_turn.has_value());
  EXPECT_EQ(same.user->prefix, "p");
}

TEST(TaskBundle, StartTokenById) {
  const LlmMetadata m = MetadataOf(
      "\x20\x02\x2a\x01"
      "e");
  EXPECT_THAT(m.start_token->ids, ElementsAre(2));
}

// METADATA of a .task for LiteRT-LM: its start_token { token_str = "s" },
// stop_tokens { token_ids { ids = 7 } }, max_num_tokens = 9.
TEST(TaskBundle, ReadsLlmMetadataAsWell) {
  const LlmMetadata m =
      MetadataOf("\x0a\x03\x12\x01s\x12\x05\x0a\x03\x0a\x01\x07\x28\x09");
  EXPECT_EQ(m.start_token->text, "s");
  ASSERT_EQ(m.stop_tokens.size(), 1u);
  EXPECT_THAT(m.stop_tokens[0].ids, ElementsAre(7));
  EXPECT_EQ(m.max_num_tokens, 9);
  EXPECT_FALSE(m.single_turn.has_value());
}

TEST(TaskBundle, AnUnknownNormalization) {
  EXPECT_THAT(
      [] {
        MetadataOf(
            "\x2a\x01"
            "e\x38\x05");
      },
      ThrowsMessage<Error>(HasSubstr("METADATA: text is normalised")));
}

TEST(TaskBundle, TextThatIsNotUtf8) {
  EXPECT_THAT([] { MetadataOf("\x2a\x01\xFF"); },
              ThrowsMessage<Error>(HasSubstr("METADATA is damaged")));
}

TEST(TaskBundle, TruncatedAnywhere) {
  const TempDir dir;
  for (size_t size = 1; size < Good().size(); ++size) {
    EXPECT_THROW(ReadAll(dir, Good().substr(0, size)), Error) << size;
  }
  EXPECT_NO_THROW(ReadAll(dir, Good()));
}

TEST(TaskBundle, CompressedOrMisaligned) {
  ExpectRefused(MakeZip({{"TF_LITE_PREFILL_DECODE", "xy", 8}}),
                "is compressed or encrypted");
  for (const size_t more : {1, 3, 4}) {
    // Behind two headers of 30 bytes, both names and no padding.
    const std::string name = "TF_LITE_PREFILL_DECODE";
    ExpectRefused(MakeZip({{std::string(more, 'a'), ""}, {name, "TFL3"}}),
                  "expected a multiple of 4");
  }
}

TEST(TaskBundle, AnArchiveOfOtherThings) {
  ExpectRefused(MakeZip({{"archive/data.pkl", "x"}}),
                "no TFLite model of type \"tf_lite_prefill_decode\"");
  ExpectRefused(MakeZip({{"TF_LITE_VISION_ENCODER", "TFL3"}}, Aligned()),
                "found: \"vision_encoder\"");
}

TEST(TaskBundle, ModelsForGpusAlone) {
  ExpectRefused(MakeZip({{"TF_LITE_ARTISAN_TEXT_DECODER", "TFL3"}}, Aligned()),
                "An artisan decoder is run by LiteRT-LM's own GPU code");
}

TEST(TaskBundle, NoZip) {
  const TempDir dir;
  for (const char* content : {"P", "PK", "PK\3", "TFL3TFL3", "xxxxxPK\3\4"}) {
    const MappedFile file(dir.Write("a", content));
    EXPECT_FALSE(Bundle::Open(file).has_value()) << content;
  }
}

TEST(TaskBundle, RandomDamage) {
  const TempDir dir;
  const auto read = [&](const std::string& content) { ReadAll(dir, content); };
  EXPECT_GT(CountRefusedDamage(Good(), 3000, read), 1000);
}

}  // namespace
}  // namespace verify_tflite
