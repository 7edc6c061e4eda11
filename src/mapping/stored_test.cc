#include "mapping/stored.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;

std::vector<float> Row(const tflite::Constant& constant, int64_t row) {
  std::vector<float> values(constant.cols());
  StoredReader(constant).Read(row, values.data());
  return values;
}

tflite::Constant Constant(ElementType type, std::vector<int64_t> shape,
                          const std::string& bytes) {
  tflite::Constant constant;
  constant.type = type;
  constant.shape = std::move(shape);
  constant.data = std::as_bytes(std::span(bytes));
  return constant;
}

TEST(Stored, Int8PerChannel) {
  const std::string bytes = {1, -2, 3, 127, -128, 0};
  tflite::Constant constant = Constant(ElementType::kInt8, {2, 3}, bytes);
  constant.scales = {0.5f, 2.0f};
  EXPECT_THAT(Row(constant, 0), ElementsAre(0.5f, -1.0f, 1.5f));
  EXPECT_THAT(Row(constant, 1), ElementsAre(254.0f, -256.0f, 0.0f));
  constant.axis = 1;
  constant.scales = {1, 10, 100};
  EXPECT_THAT(Row(constant, 1), ElementsAre(127.0f, -1280.0f, 0.0f));
  constant.zero_points = {1, 0, -1};
  EXPECT_THAT(Row(constant, 0), ElementsAre(0.0f, -20.0f, 400.0f));
}

// Norms and biases of static recipes.
TEST(Stored, WiderIntegers) {
  const auto bytes = [](const auto& values) {
    return std::string(reinterpret_cast<const char*>(values.data()),
                       values.size() * sizeof(values[0]));
  };
  const std::string norm = bytes(std::vector<int16_t>{32767, -32768});
  tflite::Constant constant = Constant(ElementType::kInt16, {2}, norm);
  constant.scales = {0.5f};
  EXPECT_THAT(Row(constant, 0), ElementsAre(16383.5f));
  EXPECT_THAT(Row(constant, 1), ElementsAre(-16384.0f));
  const std::string bias = bytes(std::vector<int32_t>{-100000000, 3});
  tflite::Constant biases = Constant(ElementType::kInt32, {2}, bias);
  biases.scales = {0.25f, 2.0f};
  EXPECT_THAT(Row(biases, 0), ElementsAre(-25000000.0f));
  EXPECT_THAT(Row(biases, 1), ElementsAre(6.0f));
  const std::string wide = bytes(std::vector<int64_t>{1, -7});
  tflite::Constant biases64 = Constant(ElementType::kInt64, {2}, wide);
  biases64.scales = {0.5f};
  EXPECT_THAT(Row(biases64, 1), ElementsAre(-3.5f));
}

// Steps of a bias are finer than float32's numbers of its size.
TEST(Stored, StepsOfBiases) {
  const std::string bytes(4, '\0');
  tflite::Constant constant = Constant(ElementType::kInt32, {1}, bytes);
  constant.scales = {1e-9f};
  float step = 0;
  const float original = 8;
  StoredReader(constant).Steps(0, &original, &step);
  EXPECT_EQ(step, 0x1p-19f);
}

TEST(Stored, ScalesOfALeadingDimension) {
  const std::string bytes(8, 1);
  tflite::Constant constant = Constant(ElementType::kInt8, {2, 2, 2}, bytes);
  constant.scales = {3, 5};
  constant.axis = 1;  // rows 0 and 2, and 1 and 3
  EXPECT_THAT(Row(constant, 2), ElementsAre(3.0f, 3.0f));
  EXPECT_THAT(Row(constant, 3), ElementsAre(5.0f, 5.0f));
}

TEST(Stored, Int4LowNibbleFirst) {
  const std::string bytes = {'\x21', '\x8f'};
  tflite::Constant constant = Constant(ElementType::kInt4, {1, 4}, bytes);
  constant.shape = {2, 2};
  constant.scales = {1};
  EXPECT_THAT(Row(constant, 0), ElementsAre(1.0f, 2.0f));
  EXPECT_THAT(Row(constant, 1), ElementsAre(-1.0f, -8.0f));
}

// What Read gives of a part of a row is what it gives of the whole.
void ExpectPartsEqualWhole(const tflite::Constant& constant) {
  const StoredReader reader(constant);
  for (int64_t row = 0; row < constant.rows(); ++row) {
    const std::vector<float> whole = Row(constant, row);
    for (int64_t first = 0; first < constant.cols(); ++first) {
      for (int64_t count = 1; first + count <= constant.cols(); ++count) {
        std::vector<float> part(count);
        reader.Read(row, first, count, part.data());
        EXPECT_EQ(part, std::vector<float>(whole.begin() + first,
                                           whole.begin() + first + count));
      }
    }
  }
}

TEST(Stored, PartsOfARow) {
  const std::string bytes = "\x12\x9f\x03\x7e\xc4\x58";
  tflite::Constant constant = Constant(ElementType::kInt4, {2, 6}, bytes);
  constant.scales = {0.5f, 2.0f};
  ExpectPartsEqualWhole(constant);
  constant.axis = 1;
  constant.scales = {1, 2, 3, 4, 5, 6};
  constant.zero_points = {1, 2, 3, 4, 5, 6};
  ExpectPartsEqualWhole(constant);
  constant = Constant(ElementType::kInt2, {2, 12}, bytes);
  const std::vector<float> block_scales = {1, 2, 3, 4, 5, 6};
  constant.block_size = 4;
  constant.block_scales = std::as_bytes(std::span(block_scales));
  ExpectPartsEqualWhole(constant);
}

TEST(Stored, Int2LowBitsFirst) {
  const std::string bytes = {'\xe4'};  // 11 10 01 00
  tflite::Constant constant = Constant(ElementType::kInt2, {2, 2}, bytes);
  constant.scales = {1};
  EXPECT_THAT(Row(constant, 0), ElementsAre(0.0f, 1.0f));
  EXPECT_THAT(Row(constant, 1), ElementsAre(-2.0f, -1.0f));
}

TEST(Stored, BlocksWithHalfScales) {
  const std::string bytes = {1, 1, 1, 1, 2, 2, 2, 2};
  // 1, 2, 0.5, 2^-24
  const uint16_t scales[] = {0x3c00, 0x4000, 0x3800, 0x0001};
  tflite::Constant constant = Constant(ElementType::kInt8, {2, 4}, bytes);
  constant.block_size = 2;
  constant.block_scales = std::as_bytes(std::span(scales));
  constant.half_block_scales = true;
  EXPECT_THAT(Row(constant, 0), ElementsAre(1.0f, 1.0f, 2.0f, 2.0f));
  EXPECT_THAT(Row(constant, 1), ElementsAre(1.0f, 1.0f, 0x1p-23f, 0x1p-23f));
}

TEST(Stored, FloatsOf16Bits) {
  const uint16_t halves[] = {0x3c00, 0xc500, 0x7bff, 0x03ff};
  const std::string bytes(reinterpret_cast<const char*>(halves), 8);
  EXPECT_THAT(Row(Constant(ElementType::kFloat16, {2, 2}, bytes), 0),
              ElementsAre(1.0f, -5.0f));
  EXPECT_THAT(Row(Constant(ElementType::kFloat16, {2, 2}, bytes), 1),
              ElementsAre(65504.0f, 1023 * 0x1p-24f));
  EXPECT_THAT(Row(Constant(ElementType::kBFloat16, {2, 2}, bytes), 0),
              ElementsAre(0x1p-7f, -2048.0f));
}

TEST(Stored, StepsOfFloats) {
  const std::string bytes(4, 0);
  const tflite::Constant constant =
      Constant(ElementType::kFloat16, {1, 2}, bytes);
  EXPECT_EQ(constant.cols(), 1);  // a vector
  float step = 0;
  const StoredReader reader(constant);
  for (const auto& [value, expected] :
       {std::pair(1.0f, 0x1p-10f), std::pair(-1.99f, 0x1p-10f),
        std::pair(4.0f, 0x1p-8f), std::pair(0.0f, 0x1p-24f)}) {
    reader.Steps(0, &value, &step);
    EXPECT_EQ(step, expected) << value;
  }
}

}  // namespace
}  // namespace verify_tflite
