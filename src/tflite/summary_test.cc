// SPDX-License-Identifier: Apache-2.0
#include "tflite/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/testing.h"

namespace verify_tflite::tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::ThrowsMessage;

// Made by the schema classes of ai-edge-litert (tools/record_tflite.py).
const std::string& Good() {
  static const std::string content = ReadFile(TestDataPath("small.tflite"));
  return content;
}

Summary Read(const std::string& content) {
  return Summarize(File::Read(std::as_bytes(std::span(content)), "a.tflite"));
}

// As tools/record_tflite.py writes it.
TEST(Summary, ReadsWhatIsInIt) {
  const Summary file = Read(Good());
  EXPECT_EQ(file.version, 3u);
  EXPECT_EQ(file.description, "small");
  EXPECT_EQ(file.subgraphs, 2);
  EXPECT_THAT(file.metadata, ElementsAre(Pair("min_runtime_version", 5)));
  EXPECT_THAT(
      file.ops,
      ElementsAre(Pair("CUSTOM own", 1), Pair("FULLY_CONNECTED", 2),
                  Pair("STABLEHLO_COMPOSITE", 1), Pair("operator 250", 1)));
  EXPECT_THAT(file.composites, ElementsAre(Pair("odml.rms_norm", 1)));
  ASSERT_EQ(file.signatures.size(), 1u);
  EXPECT_EQ(file.signatures[0].name, "decode");
  ASSERT_EQ(file.signatures[0].inputs.size(), 1u);
  EXPECT_EQ(file.signatures[0].inputs[0].name, "tokens");
  EXPECT_EQ(file.signatures[0].inputs[0].type, ElementType::kInt32);
  EXPECT_THAT(file.signatures[0].inputs[0].dims, ElementsAre(1, -1));
  ASSERT_EQ(file.signatures[0].outputs.size(), 1u);
  EXPECT_THAT(file.signatures[0].outputs[0].dims, ElementsAre(1, 7));
}

// Names as files of each converter have them.
TEST(ConvertedBy, IsToldByNamesOfTensors) {
  const auto made_by = [](const std::vector<std::string>& names) {
    File file;
    file.graphs.emplace_back();
    for (const std::string& name : names) {
      file.graphs[0].tensors.emplace_back().name = name;
    }
    return ConvertedBy(file);
  };
  const std::string module =
      "litert_torch.generative.export_hf.core.exportable_module.Prefill/";
  EXPECT_EQ(
      made_by({"prefill_8_tokens:0",
               module + "transformers.models.qwen2_5_vl.modeling_"
                        "qwen2_5_vl.Qwen2_5_VLForConditionalGeneration_model/"
                        "transformers.models.qwen2_5_vl.x;1"}),
      "litert-torch's export_hf, from transformers' "
      "Qwen2_5_VLForConditionalGeneration");
  EXPECT_EQ(made_by({module + "transformers.models.llama.modeling_llama."
                              "LlamaForCausalLM_model/x;8"}),
            "litert-torch's export_hf, from transformers' LlamaForCausalLM");
  EXPECT_EQ(made_by({module + "x", "transformers.models.llama"}),
            "litert-torch's export_hf");
  EXPECT_EQ(made_by({"litert_torch.generative.layers.attention.Attention/x"}),
            "litert-torch's classic converter");
  EXPECT_EQ(made_by({"arith.constant", ""}), "");
}

TEST(Summary, TellsHowConstantsAreStored) {
  const Summary file = Read(Good());
  std::map<std::string, std::array<int64_t, 3>> found;
  for (const auto& [how, w] : file.weights) {
    found[how] = {w.tensors, w.bytes, w.elements};
  }
  EXPECT_THAT(found,
              ElementsAre(Pair("FLOAT32", ElementsAre(1, 8, 2)),
                          Pair("INT4 in blocks of 32", ElementsAre(1, 32, 64)),
                          Pair("INT8 per channel", ElementsAre(1, 6, 6)),
                          Pair("INT8 per tensor", ElementsAre(1, 4, 4))));
  EXPECT_THAT(
      file.weight_bytes,
      ElementsAre(Pair("FLOAT32", 8), Pair("INT4", 32), Pair("INT8", 10)));
}

// The last weights begin above 4 GiB. The file has holes and takes no room.
TEST(Summary, WeightsBehindTheFlatbuffer) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  constexpr int64_t kEnd = 9 * kGiB / 2 + 10;
  const TempDir dir;
  const std::string path =
      dir.Write("large.tflite", ReadFile(TestDataPath("outside.tflite")));
  std::filesystem::resize_file(path, kEnd);
  const MappedFile whole(path);
  const Summary file = Summarize(File::Read(whole.bytes(), path));
  ASSERT_EQ(file.weights.count("INT8"), 1u);
  EXPECT_EQ(file.weights.at("INT8").tensors, 2);
  EXPECT_EQ(file.weights.at("INT8").bytes, 3 * kGiB / 2 + 10);
  EXPECT_EQ(file.weights.at("INT8").elements, 3 * kGiB / 2 + 10);
  EXPECT_EQ(file.weight_bytes.at("INT8"), 3 * kGiB / 2 + 10);

  std::filesystem::resize_file(path, kEnd - 1);
  const MappedFile cut(path);
  EXPECT_THAT([&] { File::Read(cut.bytes(), path); },
              ThrowsMessage<Error>(HasSubstr(
                  "buffer 2 is said to be bytes 4831838208 to 4831838218")));
}

TEST(Summary, CountsConstantsBehindTheFlatbuffer) {
  const std::string external = ReadFile(TestDataPath("external.tflite"));
  const Summary file = Read(external);
  EXPECT_EQ(file.weight_bytes, Read(Good()).weight_bytes);
  EXPECT_THAT(file.metadata, ElementsAre(Pair("min_runtime_version", 5)));
  // 55 bytes of them.
  for (size_t missing = 1; missing <= 56; ++missing) {
    EXPECT_THAT(
        [&] { Read(external.substr(0, external.size() - missing)); },
        ThrowsMessage<Error>(HasSubstr("a.tflite is damaged or incomplete")))
        << missing;
  }
}

}  // namespace
}  // namespace verify_tflite::tflite
