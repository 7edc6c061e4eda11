// SPDX-License-Identifier: Apache-2.0
#include "tflite/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Made, and read back for the expectations, by litert_lm_builder
// (tools/record_bundle.py).
const std::string& Good() {
  static const std::string content = ReadFile(TestDataPath("small.litertlm"));
  return content;
}

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string Hex(std::span<const std::byte> bytes) {
  std::string hex;
  for (const std::byte b : bytes) hex += fmt::format("{:02x}", b);
  return hex;
}

// Everything that a bundle can be asked.
void ReadAll(const std::string& content) {
  const Bundle bundle = Bundle::Read(Bytes(content), "a.litertlm");
  bundle.PrefillDecode();
  bundle.Embedder();
  bundle.ReadLlmMetadata();
  bundle.ReadHfTokenizer();
  bundle.SentencePieceModel();
}

void ExpectRefused(const std::string& content, const std::string& reason) {
  EXPECT_THAT(
      [&] { ReadAll(content); },
      ThrowsMessage<Error>(AllOf(HasSubstr("a.litertlm"), HasSubstr(reason))));
}

// `content` with the number at `offset` replaced.
template <typename T>
std::string With(std::string content, size_t offset, T value) {
  std::memcpy(content.data() + offset, &value, sizeof(value));
  return content;
}

// Where the header holds this 64-bit number.
size_t Locate(uint64_t value) {
  const std::string pattern(reinterpret_cast<const char*>(&value),
                            sizeof(value));
  const size_t at = Good().find(pattern, 32);
  EXPECT_LT(at, 2000u);
  return at;
}

TEST(Bundle, ReadsWhatTheBuilderReads) {
  const auto expected =
      nlohmann::json::parse(ReadFile(TestDataPath("small.json")));
  const Bundle bundle = Bundle::Read(Bytes(Good()), "a.litertlm");
  EXPECT_THAT(bundle.version(), ElementsAre(1, 7, 0));
  EXPECT_EQ(nlohmann::json(bundle.system_metadata()), expected["system"]);
  ASSERT_EQ(bundle.sections().size(), expected["sections"].size());
  for (size_t i = 0; i < bundle.sections().size(); ++i) {
    const BundleSection& section = bundle.sections()[i];
    const auto& e = expected["sections"][i];
    EXPECT_EQ(static_cast<int>(section.type), e["type"]);
    EXPECT_EQ(section.begin, e["begin"]);
    EXPECT_EQ(section.end, e["end"]);
    EXPECT_EQ(nlohmann::json(section.items), e["items"]);
    EXPECT_EQ(Hex(section.bytes), e["bytes"]);
  }
  EXPECT_EQ(bundle.ReadHfTokenizer(), expected["tokenizer"]);
}

TEST(Bundle, FindsSections) {
  const Bundle bundle = Bundle::Read(Bytes(Good()), "a.litertlm");
  EXPECT_EQ(&bundle.PrefillDecode(), &bundle.sections()[2]);
  EXPECT_EQ(bundle.Embedder(), &bundle.sections()[3]);
  EXPECT_EQ(bundle.Embedder("per_layer_embedder"), nullptr);
  EXPECT_THAT([&] { bundle.Find(SectionType::kTfliteModel); },
              ThrowsMessage<Error>(HasSubstr("several sections TFLiteModel")));
  // That one belongs to the embedder.
  EXPECT_FALSE(bundle.SentencePieceModel().has_value());
}

// Values as in tools/record_bundle.py.
TEST(Bundle, ReadsLlmMetadata) {
  const Bundle bundle = Bundle::Read(Bytes(Good()), "a.litertlm");
  const LlmMetadata metadata = bundle.ReadLlmMetadata().value();
  EXPECT_EQ(metadata.start_token->text, "<s>");
  ASSERT_EQ(metadata.stop_tokens.size(), 2u);
  EXPECT_THAT(metadata.stop_tokens[0].ids, ElementsAre(1, 300, 70000));
  EXPECT_EQ(metadata.stop_tokens[1].text, "</s>");
  EXPECT_EQ(metadata.user->prefix, "<user>");
  EXPECT_EQ(metadata.model->suffix, "</model>\n");
  EXPECT_EQ(metadata.system->prefix, "<system>");
  EXPECT_EQ(metadata.jinja_template, "{{ messages[0].content }} ü");
  EXPECT_EQ(metadata.max_num_tokens, 1280);
  EXPECT_EQ(metadata.model_type, "gemma3");
}

// Beginning, header and every section's bounds; a cut inside what pads blocks
// to 16 KiB is one of these.
TEST(Bundle, TruncatedAnywhere) {
  for (size_t size = 0; size < 2000; ++size) {
    EXPECT_THROW(ReadAll(Good().substr(0, size)), Error) << size;
  }
  const Bundle bundle = Bundle::Read(Bytes(Good()), "a.litertlm");
  for (const BundleSection& s : bundle.sections()) {
    for (const size_t size : {s.begin - 1, s.begin, s.begin + 1, s.end - 1}) {
      ExpectRefused(Good().substr(0, size), "incomplete");
    }
  }
  EXPECT_NO_THROW(ReadAll(Good()));
}

TEST(Bundle, AnotherVersion) {
  ExpectRefused(With(Good(), 8, uint32_t{2}), "version 2.7.0, expected 1.x");
  EXPECT_NO_THROW(ReadAll(With(Good(), 12, uint32_t{99})));
  ExpectRefused("LITERTLN" + Good().substr(8), "expected \"LITERTLM\"");
}

TEST(Bundle, LyingHeaderEnd) {
  for (const uint64_t end :
       {uint64_t{0}, uint64_t{31}, uint64_t{32}, uint64_t{40},
        uint64_t{Good().size() + 1}, uint64_t{1} << 40, ~uint64_t{0}}) {
    ExpectRefused(With(Good(), 24, end), "header");
  }
  // Over the first section.
  ExpectRefused(With(Good(), 24, uint64_t{16400}), "inside the header");
}

TEST(Bundle, LyingOffsets) {
  const Bundle bundle = Bundle::Read(Bytes(Good()), "a.litertlm");
  const BundleSection& model = bundle.PrefillDecode();
  const size_t begin = Locate(model.begin);
  const size_t end = Locate(model.end);
  for (const uint64_t value :
       {uint64_t{0}, uint64_t{Good().size()}, ~uint64_t{0}}) {
    EXPECT_THROW(ReadAll(With(Good(), begin, value)), Error) << value;
  }
  ExpectRefused(With(Good(), begin, uint64_t{16400}), "inside the header or");
  ExpectRefused(With(Good(), begin, model.begin + 1), "a multiple of 16");
  ExpectRefused(With(Good(), end, ~uint64_t{0}), "is said to be bytes");
  ExpectRefused(With(Good(), end, model.begin - 1), "is said to be bytes");
  // Into the next section.
  ExpectRefused(With(Good(), end, uint64_t{65540}), "begins at byte 65536");
}

TEST(Bundle, DamagedTokenizer) {
  const Bundle bundle = Bundle::Read(Bytes(Good()), "a.litertlm");
  const BundleSection& section = bundle.sections()[1];
  ExpectRefused(With(Good(), section.begin, ~uint64_t{0}), "inflate");
  ExpectRefused(With(Good(), section.begin, uint64_t{200} << 20), "inflate");
  for (const uint64_t size : {0, 1, 44, 46, 1000}) {
    ExpectRefused(With(Good(), section.begin, size), "tokenizer");
  }
  for (size_t at = section.begin + 8; at < section.end; ++at) {
    std::string bad = Good();
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    try {
      ReadAll(bad);  // zlib's checksum does not cover its own header flags
    } catch (const Error&) {
    }
  }
}

TEST(Bundle, NoModelInIt) {
  std::string bad = Good();
  for (size_t at; (at = bad.find("tf_lite_prefill")) != std::string::npos;) {
    bad.replace(at, 15, "tf_lite_xrefill");
  }
  ExpectRefused(bad,
                "no TFLite model of type \"tf_lite_prefill_decode\"; "
                "found: \"xrefill_decode\", \"embedder\"");
}

TEST(Bundle, ModelTypeWithoutPrefixAndInCapitals) {
  std::string other = Good();
  const size_t at = other.find("tf_lite_prefill_decode");
  other.replace(at, 8, "TF_LITE_");
  EXPECT_NO_THROW(ReadAll(other));
}

TEST(Bundle, ModelWithWeightsElsewhere) {
  // The one byte that is the type of the model's section.
  size_t found = 0;
  for (size_t at = 32; at < 2000; ++at) {
    const std::string changed = With(Good(), at, uint8_t{7});
    try {
      const Bundle b = Bundle::Read(Bytes(changed), "a.litertlm");
      if (b.sections().size() != 5) continue;
      if (b.sections()[2].type != SectionType::kTfliteWeights) continue;
      ++found;
      ExpectRefused(changed, "weights of the model are in a section");
    } catch (const Error&) {
    }
  }
  EXPECT_EQ(found, 1u);
}

TEST(Bundle, RandomDamage) {
  std::mt19937 random(1);
  std::string content = Good();
  const Bundle bundle = Bundle::Read(Bytes(Good()), "a.litertlm");
  std::vector<std::pair<size_t, size_t>> areas = {{0, 1600}, {0, 1600}};
  areas.emplace_back(bundle.sections()[0].begin, bundle.sections()[0].end);
  areas.emplace_back(bundle.sections()[1].begin, bundle.sections()[1].end);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<size_t> changed;
    const auto [from, to] = areas[random() % areas.size()];
    for (size_t n = 1 + random() % 4; n > 0; --n) {
      changed.push_back(from + random() % (to - from));
      content[changed.back()] = static_cast<char>(random());
    }
    try {
      ReadAll(content);
    } catch (const Error&) {
      ++refused;
    }
    for (const size_t at : changed) content[at] = Good()[at];
  }
  EXPECT_GT(refused, 5000);
}

}  // namespace
}  // namespace verify_tflite
