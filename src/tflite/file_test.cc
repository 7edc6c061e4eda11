// SPDX-License-Identifier: Apache-2.0
#include "tflite/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/testing.h"

namespace verify_tflite::tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::ThrowsMessage;
using ::testing::UnorderedElementsAre;

// Made by the schema classes of ai-edge-litert (tools/record_tflite.py).
const std::string& Good() {
  static const std::string content = ReadFile(TestDataPath("small.tflite"));
  return content;
}

File Read(const std::string& content) {
  return File::Read(std::as_bytes(std::span(content)), "a.tflite");
}

TEST(File, ReadsWhatIsInIt) {
  const File file = Read(Good());
  EXPECT_EQ(file.version, 3u);
  EXPECT_EQ(file.description, "small");
  EXPECT_THAT(file.metadata, ElementsAre(Pair("min_runtime_version", 5)));
  EXPECT_EQ(file.min_runtime_version, "");  // bytes 0 to 4
  ASSERT_EQ(file.graphs.size(), 2u);
  EXPECT_EQ(file.graphs[0].signature, "decode");
  EXPECT_EQ(file.graphs[1].signature, "");
  ASSERT_EQ(file.signatures.size(), 1u);
  const Signature& signature = file.signatures[0];
  EXPECT_EQ(signature.name, "decode");
  EXPECT_EQ(signature.graph, 0);
  ASSERT_EQ(signature.inputs.size(), 1u);
  EXPECT_EQ(signature.inputs[0].first, "tokens");
  const Tensor& tokens = file.graphs[0].tensors[signature.inputs[0].second];
  EXPECT_EQ(tokens.type, ElementType::kInt32);
  EXPECT_THAT(tokens.any_shape, ElementsAre(1, -1));
}

TEST(File, NamesOperators) {
  const File file = Read(Good());
  std::vector<std::string> names;
  for (const Graph& graph : file.graphs) {
    for (const Op& op : graph.ops) names.push_back(NameOf(op));
  }
  EXPECT_THAT(names, UnorderedElementsAre(
                         "CUSTOM own", "FULLY_CONNECTED", "FULLY_CONNECTED",
                         "STABLEHLO_COMPOSITE", "operator 250"));
}

TEST(NameOf, KnowsTheSchemasOperators) {
  const auto name_of = [](int32_t code) {
    Op op;
    op.code = code;
    return NameOf(op);
  };
  EXPECT_EQ(name_of(0), "ADD");
  EXPECT_EQ(name_of(9), "FULLY_CONNECTED");
  EXPECT_EQ(name_of(126), "BATCH_MATMUL");
  EXPECT_EQ(name_of(151), "DYNAMIC_UPDATE_SLICE");
  EXPECT_EQ(name_of(206), "STABLEHLO_COMPOSITE");
  EXPECT_EQ(name_of(-1), "operator -1");
  EXPECT_EQ(kOpFullyConnected, 9);
  EXPECT_EQ(kOpStablehloComposite, 206);
}

TEST(File, TellsHowConstantsAreStored) {
  const File file = Read(Good());
  file.CheckConstants();
  std::vector<std::string> types;
  for (const Constant& constant : file.constants) {
    if (constant.type_name != "other") types.push_back(constant.type_name);
  }
  EXPECT_THAT(types, UnorderedElementsAre(
                         "FLOAT32", "INT4 in blocks of 32 without their scales",
                         "INT8 per channel", "INT8 per tensor"));
}

TEST(File, ConstantOfAnotherSizeThanItsShape) {
  File file = Read(Good());
  for (Graph& graph : file.graphs) {
    for (Tensor& tensor : graph.tensors) {
      if (tensor.data.size() == 4) tensor.shape = {5};
    }
  }
  EXPECT_THAT([&] { AddConstants(file); },
              ThrowsMessage<Error>(
                  HasSubstr("a.tflite is damaged or incomplete: a constant of "
                            "shape 5 has 4 bytes")));
  file.damaged_constant = "a.tflite is damaged";
  EXPECT_THAT([&] { file.CheckConstants(); },
              ThrowsMessage<Error>("a.tflite is damaged"));
}

TEST(File, TruncatedAnywhere) {
  ExpectTruncationsRefused(Good(), "a.tflite is damaged or incomplete", Read);
}

TEST(File, RandomDamage) {
  EXPECT_GT(CountRefusedDamage(Good(), 20000, Read), 5000);
}

TEST(ZeroScales, AreFound) {
  File file;
  file.constants.resize(2);
  file.constants[0].scales = {0.5, 0.25};
  EXPECT_EQ(FindZeroScales(file).constants, 0);
  file.constants[1].name = "gate";
  file.constants[1].scales = {1, 0, 0};
  const ZeroScales zeros = FindZeroScales(file);
  EXPECT_EQ(zeros.constants, 1);
  EXPECT_EQ(zeros.count, 2);
  EXPECT_EQ(zeros.row, 1);
  EXPECT_THAT(Describe(zeros), HasSubstr("\"gate\""));
}

}  // namespace
}  // namespace verify_tflite::tflite
