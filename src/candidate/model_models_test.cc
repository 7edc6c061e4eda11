#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/testing.h"
#include "base/testing_zip.h"
#include "candidate/model.h"
#include "candidate/stderr_capture.h"
#include "candidate/testing_models.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string OpenMessage(const std::string& path) {
  try {
    Model::Open(path);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(ModelTest, ReadsTheClassicConversion) {
  const Model model = Model::Open(ModelPath("tiny_f32.tflite"));
  const ModelInfo& info = model.info();
  ASSERT_EQ(info.prefills.size(), 2u);
  EXPECT_EQ(info.prefills[0].name, "prefill_64");
  EXPECT_EQ(info.prefills[0].length, 64);
  EXPECT_EQ(info.prefills[0].logit_rows, 0);
  EXPECT_EQ(info.prefills[1].name, "prefill_8");
  EXPECT_EQ(info.num_layers, 4);
  EXPECT_EQ(info.kv_length, 256);
  EXPECT_EQ(info.vocab_size, 49152);
  EXPECT_FALSE(info.mask_input);
  // 4 layers, keys and values, 256 positions, 2 heads of 16, float32.
  EXPECT_EQ(info.kv_bytes, 4 * 2 * 256 * 2 * 16 * 4);
  EXPECT_EQ(info.kv_values, 2 * 2 * 16);
  EXPECT_EQ(info.recipe, Recipe::kFloat32);
  // The tied embedding alone is 49152 x 64 floats, and in the file once.
  EXPECT_GT(info.weight_bytes.at("FLOAT32"), 49152 * 64 * 4);
  EXPECT_LT(info.weight_bytes.at("FLOAT32"), 49152 * 64 * 4 + 2'000'000);
}

TEST(ModelTest, FindsTheCacheLengthInEveryLayout) {
  for (const char* name :
       {"tiny_single.tflite", "tiny_mask.tflite", "tiny_transposed.tflite",
        "tiny_mask_transposed.tflite", "tiny_export_hf.tflite"}) {
    const Model model = Model::Open(ModelPath(name));
    EXPECT_EQ(model.info().kv_length, 256) << name;
    EXPECT_EQ(model.info().num_layers, 4) << name;
  }
  EXPECT_EQ(Model::Open(ModelPath("smollm2_q8.tflite")).info().kv_length, 1280);
}

TEST(ModelTest, ReadsMasks) {
  EXPECT_TRUE(Model::Open(ModelPath("tiny_mask.tflite")).info().mask_input);
  EXPECT_TRUE(
      Model::Open(ModelPath("tiny_export_hf.tflite")).info().mask_input);
}

TEST(ModelTest, ReadsASinglePrefill) {
  const Model model = Model::Open(ModelPath("tiny_single.tflite"));
  ASSERT_EQ(model.info().prefills.size(), 1u);
  EXPECT_EQ(model.info().prefills[0].name, "prefill");
  EXPECT_EQ(model.info().prefills[0].length, 64);
}

TEST(ModelTest, TellsTheRecipeFromTheWeights) {
  const auto recipe = [](const char* name) {
    return std::string(NameOf(Model::Open(ModelPath(name)).info().recipe));
  };
  EXPECT_EQ(recipe("smollm2_f32.tflite"), "float32");
  EXPECT_EQ(recipe("smollm2_fp16.tflite"), "float16");
  EXPECT_EQ(recipe("smollm2_q8.tflite"), "int8");
  EXPECT_EQ(recipe("smollm2_q8_wo.tflite"), "int8 weight-only");
  EXPECT_EQ(recipe("smollm2_q4_block32.tflite"), "int4");
  EXPECT_EQ(recipe("tiny_q8.tflite"), "int8");
}

TEST(ModelTest, DescribesTheRecipe) {
  const auto describe = [](const char* name) {
    return Model::Open(ModelPath(name)).info().recipe_detail;
  };
  EXPECT_EQ(describe("smollm2_f32.tflite"), "float32");
  EXPECT_EQ(describe("smollm2_fp16.tflite"), "float16");
  EXPECT_EQ(describe("smollm2_q8.tflite"), "int8 per channel, dynamic");
  EXPECT_EQ(describe("smollm2_q8_wo.tflite"), "int8 per channel, weight-only");
  EXPECT_THAT(describe("smollm2_q4_block32.tflite"),
              HasSubstr("int4 in blocks of 32, dynamic"));
  EXPECT_THAT(
      describe("tiny_q8_embedding_q4.tflite"),
      AllOf(HasSubstr("mixed: "), HasSubstr("int8 per channel, dynamic"),
            HasSubstr("int4 per channel, lookup")));
}

TEST(ModelTest, IgnoresSignaturesOfOtherUses) {
  EXPECT_THAT(
      Model::Open(ModelPath("small_lora.tflite")).info().ignored_signatures,
      ::testing::UnorderedElementsAre("prefill_8_lora_r4", "prefill_64_lora_r4",
                                      "decode_lora_r4"));
  EXPECT_THAT(
      Model::Open(ModelPath("tiny_batch.tflite")).info().ignored_signatures,
      ::testing::UnorderedElementsAre("test_prefill_64", "test_decode"));
}

TEST(ModelTest, CountsValuesWhateverTheirTypeAndTheBatch) {
  for (const char* name : {"tiny_kv_float16.tflite", "tiny_kv_int8.tflite",
                           "tiny_batch.tflite", "tiny_hf_logits.tflite"}) {
    EXPECT_EQ(Model::Open(ModelPath(name)).info().kv_values, 2 * 2 * 16)
        << name;
  }
}

TEST(ModelTest, NamesTheTypeOfTheKvCaches) {
  const auto type = [](const char* name) {
    return Model::Open(ModelPath(name)).info().kv_type;
  };
  EXPECT_EQ(type("tiny_f32.tflite"), "FLOAT32");
  EXPECT_EQ(type("tiny_kv_float16.tflite"), "FLOAT16");
  EXPECT_EQ(type("tiny_kv_int8.tflite"), "INT8");
}

TEST(ModelTest, CountsSharedWeightsOnce) {
  const std::string path = ModelPath("smollm2_q8.tflite");
  const Model model = Model::Open(path);
  int64_t total = 0;
  for (const auto& [type, bytes] : model.info().weight_bytes) {
    total += bytes;
  }
  const auto file = static_cast<int64_t>(ReadFile(path).size());
  EXPECT_LT(total, file);
  EXPECT_GT(total, file * 8 / 10);
}

TEST(ModelTest, RefusesWhatIsNoTflite) {
  const TempDir dir;
  EXPECT_THAT(OpenMessage(dir.File("none.tflite")), HasSubstr("none.tflite"));
  EXPECT_THAT(OpenMessage(dir.path()), HasSubstr("directory"));
  EXPECT_THAT(OpenMessage(dir.Write("empty.tflite", "")), HasSubstr("empty"));
  for (const char* content : {"x", "TFL3", "\x1c\0\0\0TFL"}) {
    EXPECT_THAT(OpenMessage(dir.Write("a.tflite", content)),
                AllOf(HasSubstr("a.tflite"), HasSubstr("no .tflite file")));
  }
  EXPECT_THAT(OpenMessage(dir.Write("a.litertlm", "LITERTLM\1")),
              HasSubstr("a.litertlm: the header of the bundle is incomplete"));
  EXPECT_THAT(OpenMessage(dir.Write("a.task", "PK\3\4 a zip file")),
              HasSubstr("a.task: damaged zip archive"));
  std::string random(100000, '\0');
  for (size_t i = 0; i < random.size(); ++i) {
    random[i] = static_cast<char>((i * i * 2654435761u) >> 11);
  }
  EXPECT_NE(OpenMessage(dir.Write("random.tflite", random)), "");
  random.replace(4, 4, "TFL3");
  EXPECT_THAT(OpenMessage(dir.Write("random.tflite", random)),
              HasSubstr("INVALID_FLATBUFFER"));
}

ZipOptions Aligned() {
  ZipOptions options;
  options.alignment = 4;
  return options;
}

TEST(ModelTest, TellsWhatOfABundleIsNotChecked) {
  const TempDir dir;
  const std::string path =
      dir.Write("a.task", MakeZip({{"TF_LITE_PREFILL_DECODE",
                                    ReadFile(ModelPath("tiny_f32.tflite"))},
                                   {"TF_LITE_VISION_ENCODER", "x"},
                                   {"TF_LITE_EMBEDDER", "x"}},
                                  Aligned()));
  EXPECT_THAT(Model::Open(path).info().notes,
              ::testing::ElementsAre(
                  AllOf(HasSubstr("not checked"),
                        HasSubstr("\"vision_encoder\", \"embedder\""))));
  EXPECT_THAT(Model::Open(ModelPath("tiny_gpu.litertlm")).info().notes,
              ::testing::ElementsAre(HasSubstr("the bundle asks for \"gpu\"")));
  for (const char* name : {"tiny_bundle.litertlm", "tiny_embedder.task",
                           "tiny_two_embedders.litertlm"}) {
    EXPECT_THAT(Model::Open(ModelPath(name)).info().notes, IsEmpty()) << name;
  }
}

TEST(ModelTest, TakesEmbeddingsThatTheBundleLacks) {
  const TempDir dir;
  const std::string model =
      ReadFile(ModelPath("tiny_hf_embedder/model.tflite"));
  EXPECT_THAT(
      OpenMessage(dir.Write(
          "a.task", MakeZip({{"TF_LITE_PREFILL_DECODE", model}}, Aligned()))),
      HasSubstr("takes \"embeddings\" instead of tokens, and the bundle has no "
                "model of type \"tf_lite_embedder\""));
  EXPECT_THAT(OpenMessage(dir.Write("a.task",
                                    MakeZip({{"TF_LITE_PREFILL_DECODE", model},
                                             {"TF_LITE_EMBEDDER", "TFL3"}},
                                            Aligned()))),
              HasSubstr("a.task: embedder: is no .tflite file"));
}

// Compiled for an NPU, and with an operator that no runtime has.
TEST(ModelTest, RefusesOperatorsThatTheCpuDoesNotHave) {
  EXPECT_THAT(OpenMessage(ModelPath("tiny_npu.tflite")),
              AllOf(HasSubstr("DISPATCH_OP"), HasSubstr("NPU")));

}

TEST(ModelTest, RefusesTruncatedFiles) {
  const TempDir dir;
  const std::string whole = ReadFile(ModelPath("tiny_f32.tflite"));
  for (size_t kept = 8; kept < whole.size(); kept += whole.size() / 23) {
    EXPECT_THAT(OpenMessage(dir.Write("cut.tflite", whole.substr(0, kept))),
                HasSubstr("INVALID_FLATBUFFER"));
  }
  EXPECT_NE(
      OpenMessage(dir.Write("cut.tflite", whole.substr(0, whole.size() - 1))),
      "");
}

// Just enough of the flatbuffer format, and of TFLite's schema, to damage a
// file in one place.
class Flatbuffer {
 public:
  explicit Flatbuffer(std::string& bytes) : bytes_(bytes) {}

  uint32_t Get(size_t at) const {
    uint32_t value;
    std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
  }
  void Set(size_t at, uint32_t value) {
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }

  size_t Model() const { return Follow(0); }
  // Where field `number` of a table is; it must be present.
  size_t Field(size_t table, size_t number) const {
    const size_t vtable = table - static_cast<int32_t>(Get(table));
    uint16_t size, offset;
    std::memcpy(&size, bytes_.data() + vtable, 2);
    std::memcpy(&offset, bytes_.data() + vtable + 4 + 2 * number, 2);
    if (4 + 2 * number >= size || offset == 0) throw Error("no such field");
    return table + offset;
  }
  // Vector in a field: its length, and where its entries begin.
  size_t Size(size_t table, size_t number) const {
    return Get(Follow(Field(table, number)));
  }
  size_t Entries(size_t table, size_t number) const {
    return Follow(Field(table, number)) + 4;
  }
  // Entry `i` of a vector of tables.
  size_t Table(size_t table, size_t number, size_t i) const {
    return Follow(Entries(table, number) + 4 * i);
  }
  std::string String(size_t table, size_t number) const {
    return bytes_.substr(Entries(table, number), Size(table, number));
  }

  // The signature with that key, its input or output with that name.
  size_t Signature(std::string_view key) const {
    return Find(Model(), 7, 2, key);
  }
  size_t Find(size_t table, size_t number, size_t name_field,
              std::string_view name) const {
    for (size_t i = 0; i < Size(table, number); ++i) {
      const size_t entry = Table(table, number, i);
      if (String(entry, name_field) == name) return entry;
    }
    throw Error("no {}", name);
  }

 private:
  size_t Follow(size_t at) const { return at + Get(at); }

  std::string& bytes_;
};

constexpr size_t kOperatorCodes = 1, kSubgraphs = 2;        // of Model
constexpr size_t kTensors = 0;                              // of SubGraph
constexpr size_t kShape = 0;                                // of Tensor
constexpr size_t kInputs = 0, kOutputs = 1, kSubgraph = 4;  // of SignatureDef
constexpr size_t kName = 0, kTensorIndex = 1;               // of TensorMap
constexpr size_t kBuiltinCode = 3;                          // of OperatorCode

std::string CompileMessage(const std::string& path) {
  try {
    const Model model = Model::Open(path);
    WholeSession(model);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(ModelTest, FailedCompilationTellsTheReason) {
  std::string bytes = ReadFile(ModelPath("tiny_single.tflite"));
  Flatbuffer file(bytes);
  // An operator that no runtime has.
  file.Set(
      file.Field(file.Table(file.Model(), kOperatorCodes, 0), kBuiltinCode),
      300);
  const TempDir dir;
  const StderrCapture capture;
  EXPECT_THAT(CompileMessage(dir.Write("new.tflite", bytes)),
              AllOf(HasSubstr("new.tflite: cannot be compiled for the CPU"),
                    HasSubstr("builtin_code out of range: 300"),
                    Not(HasSubstr("INFO"))));
  EXPECT_EQ(capture.Text(1000), "");
}

TEST(ModelTest, RefusesAnOutputSmallerThanTheGraphMakesIt) {
  std::string bytes = ReadFile(ModelPath("tiny_f32.tflite"));
  Flatbuffer file(bytes);
  const size_t decode = file.Signature("decode");
  const size_t logits = file.Find(decode, kOutputs, kName, "logits");
  const size_t graph = file.Table(file.Model(), kSubgraphs,
                                  file.Get(file.Field(decode, kSubgraph)));
  const size_t tensor =
      file.Table(graph, kTensors, file.Get(file.Field(logits, kTensorIndex)));
  ASSERT_EQ(file.Size(tensor, kShape), 3u);
  const size_t last = file.Entries(tensor, kShape) + 8;
  ASSERT_EQ(file.Get(last), 49152u);
  file.Set(last, 1000);
  const TempDir dir;
  EXPECT_THAT(
      CompileMessage(dir.Write("small.tflite", bytes)),
      AllOf(HasSubstr("the graph computes [1, 1, 49152] for \"logits\""),
            HasSubstr("FLOAT32 [1, 1, 1000]")));
}

// No list does.
TEST(ModelTest, TheRuntimeDecidesAboutCustomOperators) {
  EXPECT_THAT(CompileMessage(ModelPath("tiny_custom_op.tflite")),
              HasSubstr("my_op"));
}

TEST(ModelTest, SeesASignatureThatNamesAnotherTensor) {
  std::string bytes = ReadFile(ModelPath("tiny_f32.tflite"));
  Flatbuffer file(bytes);
  const size_t input =
      file.Find(file.Signature("decode"), kInputs, kName, "kv_cache_k_1");
  const size_t index = file.Field(input, kTensorIndex);
  file.Set(index, file.Get(index) + 50);
  const TempDir dir;
  EXPECT_FALSE(
      Model::Open(dir.Write("other.tflite", bytes)).signature_faults().empty());
}

// A file of the right structure that is no language model.
TEST(ModelTest, RefusesAnotherKindOfModel) {
  const TempDir dir;
  std::string bytes = ReadFile(ModelPath("tiny_single.tflite"));
  const auto rename = [&bytes](std::string_view from, std::string_view to) {
    // Flatbuffer strings: the length comes first.
    const std::string key = std::string(1, static_cast<char>(from.size())) +
                            std::string(3, '\0') + std::string(from) + '\0';
    size_t count = 0;
    for (size_t at = 0; (at = bytes.find(key, at)) != std::string::npos; ++at) {
      bytes.replace(at + 4, to.size(), to);
      ++count;
    }
    return count;
  };
  ASSERT_GE(rename("prefill", "predict"), 1u);
  EXPECT_THAT(
      OpenMessage(dir.Write("b.tflite", bytes)),
      AllOf(HasSubstr("no signature \"prefill\""), HasSubstr("\"predict\"")));
  ASSERT_GE(rename("decode", "encode"), 1u);
  EXPECT_THAT(OpenMessage(dir.Write("b.tflite", bytes)),
              HasSubstr("no signature \"decode\""));
}

}  // namespace
}  // namespace verify_tflite
