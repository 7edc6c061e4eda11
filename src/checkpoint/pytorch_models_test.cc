// Files of the real torch.save, made and recorded by tools/pickles.py and
// tools/record_expectations.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/json_file.h"
#include "base/testing.h"
#include "checkpoint/checkpoint.h"

namespace verify_tflite {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string Hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    text += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  }
  return text;
}

TEST(PytorchLayouts, EqualWhatTorchLoads) {
  const nlohmann::json expected =
      ReadJsonFile(ExpectedPath("checkpoint/layouts.json"));
  const auto file =
      PytorchFile::Open(ModelPath("pickle_layouts") + "/layouts.pt");
  const std::map<std::string, DType> floats = {{"float32", DType::kF32},
                                               {"float16", DType::kF16},
                                               {"bfloat16", DType::kBF16},
                                               {"float64", DType::kF64}};
  int viewed = 0, copied = 0, others = 0;
  for (const auto& [name, want] : expected.items()) {
    SCOPED_TRACE(name);
    const auto dtype = floats.find(want["dtype"]);
    if (dtype == floats.end()) {
      EXPECT_TRUE(file.other_tensors().contains(name));
      ++others;
      continue;
    }
    const TensorView& tensor = file.tensors().at(name);
    EXPECT_EQ(tensor.dtype, dtype->second);
    EXPECT_EQ(tensor.shape, want["shape"].get<std::vector<int64_t>>());
    EXPECT_EQ(Hex(tensor.data), want["bytes"]);
    EXPECT_EQ(tensor.file == &file.file(), want["dense"]);
    ++(tensor.file ? viewed : copied);
  }
  EXPECT_EQ(viewed + copied, file.tensors().size());
  EXPECT_EQ(others, file.other_tensors().size());
  EXPECT_GT(viewed, 8);
  EXPECT_GT(copied, 8);
  EXPECT_EQ(file.other_tensors().at("int64"), "I64");
  EXPECT_EQ(file.other_tensors().at("float8_e4m3fn"), "F8_E4M3");
}

class Saved : public ::testing::TestWithParam<std::string> {};

TEST_P(Saved, HoldsTheTensorsOfTheSafetensorsFile) {
  const Checkpoint original = Checkpoint::Open(ModelPath("ref_mha_untied"));
  const Checkpoint saved =
      Checkpoint::Open(ModelPath("ref_pickles") + "/" + GetParam());
  EXPECT_GT(original.tensors().size(), 20);
  EXPECT_EQ(saved.tensors().size(), original.tensors().size());
  for (const auto& [name, want] : original.tensors()) {
    SCOPED_TRACE(name);
    const TensorView& got = saved.tensors().at(name);
    EXPECT_EQ(got.dtype, want.dtype);
    EXPECT_EQ(got.shape, want.shape);
    ASSERT_EQ(got.data.size(), want.data.size());
    EXPECT_EQ(std::memcmp(got.data.data(), want.data.data(), want.data.size()),
              0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Ways, Saved,
    ::testing::Values("", "pytorch_model.bin", "sharded",
                      "sharded/pytorch_model.bin.index.json", "nested_model.pt",
                      "nested_model_state_dict.pth", "lightning.ckpt",
                      "distributed.pth", "compiled.pt", "without_prefix.pt",
                      "parameters.pt", "transposed.pt", "shared_storage.pt"),
    [](const auto& info) {
      std::string name = info.param.empty() ? "directory" : info.param;
      for (char& c : name) {
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
      }
      return name;
    });

TEST(Saved, TheFormatBeforeTorch16IsNamed) {
  EXPECT_THAT(
      [] { Checkpoint::Open(ModelPath("ref_pickles") + "/legacy.pt"); },
      ThrowsMessage<Error>(
          AllOf(HasSubstr("legacy.pt: torch.save's format of before torch 1.6"),
                HasSubstr("torch.save(torch.load("))));
}

TEST(Saved, OneShardIsNotAModel) {
  EXPECT_THAT(
      [] {
        Checkpoint::Open(ModelPath("ref_pickles") +
                         "/sharded/pytorch_model-00001-of-00003.bin");
      },
      ThrowsMessage<Error>(HasSubstr("one shard of several")));
}

}  // namespace
}  // namespace verify_tflite
