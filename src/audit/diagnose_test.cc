// Constants made from a small checkpoint here, and what is said of those that
// are changed.
#include "audit/diagnose.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "base/testing.h"

namespace verify_tflite {
namespace {

using ::testing::HasSubstr;

// Two layers, hidden 16, two heads of 8 and as many KV heads, MLP 24.
constexpr char kConfig[] = R"({
  "model_type": "llama", "vocab_size": 32, "hidden_size": 16,
  "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
  "tie_word_embeddings": true
})";

void WriteCheckpoint(const TempDir& dir) {
  std::string header = "{";
  size_t end = 0;
  const auto add = [&](const std::string& name, std::vector<size_t> shape) {
    size_t bytes = sizeof(float);
    for (const size_t size : shape) bytes *= size;
    header += fmt::format(R"({}"model.{}.weight":{{"dtype":"F32","shape":[{}],)"
                          R"("data_offsets":[{},{}]}})",
                          end == 0 ? "" : ",", name, fmt::join(shape, ","), end,
                          end + bytes);
    end += bytes;
  };
  add("embed_tokens", {32, 16});
  add("norm", {16});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = fmt::format("layers.{}.", layer);
    for (const char* part : {"q", "k", "v", "o"}) {
      add(prefix + "self_attn." + part + "_proj", {16, 16});
    }
    add(prefix + "mlp.gate_proj", {24, 16});
    add(prefix + "mlp.up_proj", {24, 16});
    add(prefix + "mlp.down_proj", {16, 24});
    add(prefix + "input_layernorm", {16});
    add(prefix + "post_attention_layernorm", {16});
  }
  header += "}";
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  std::vector<float> values(end / sizeof(float));
  for (float& value : values) value = normal(generator);
  const uint64_t length = header.size();
  std::string file(sizeof(length) + header.size() + end, '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  std::memcpy(file.data() + sizeof(length), header.data(), header.size());
  std::memcpy(file.data() + sizeof(length) + header.size(), values.data(), end);
  dir.Write("config.json", kConfig);
  dir.Write("model.safetensors", file);
}

class DiagnoseTest : public ::testing::Test {
 protected:
  DiagnoseTest()
      : checkpoint_([&] {
          WriteCheckpoint(dir_);
          return Checkpoint::Open(dir_.path());
        }()),
        originals_(checkpoint_) {}

  Original Of(const WeightRole& role) const {
    return originals_.Of(role).at(0);
  }

  std::vector<float> Values(const WeightRole& role) const {
    const Original original = Of(role);
    const int64_t cols = original.cols();
    std::vector<float> values(original.num_rows() * cols);
    for (int64_t row = 0; row < original.num_rows(); ++row) {
      Originals::Read(original, row, 0, cols, &values[row * cols]);
    }
    return values;
  }

  tflite::Constant Constant(ElementType type, const WeightRole& role) const {
    tflite::Constant constant;
    constant.type = type;
    constant.type_name = "INT8 per channel";
    constant.shape = {Of(role).num_rows(), Of(role).cols()};
    return constant;
  }

  // Of a float32 constant with `values`.
  std::optional<Difference> Find(const WeightRole& role,
                                 const std::vector<float>& values) const {
    tflite::Constant constant = Constant(ElementType::kFloat32, role);
    constant.data = std::as_bytes(std::span(values));
    return Find(role, constant);
  }
  std::optional<Difference> Find(const WeightRole& role,
                                 const tflite::Constant& constant) const {
    const Original original = Of(role);
    const Comparison comparison = Compare(constant, original, false);
    if (comparison.ok()) return std::nullopt;
    return Diagnose(constant, {0, role, "decode"}, original, comparison,
                    originals_);
  }

  // Symmetric, per row, as converters quantise; `change` of each q.
  template <typename Change>
  std::optional<Difference> FindInt8(const WeightRole& role, float scale,
                                     const Change& change) const {
    const std::vector<float> values = Values(role);
    tflite::Constant constant = Constant(ElementType::kInt8, role);
    std::vector<int8_t> stored(values.size());
    const size_t cols = constant.cols();
    for (int64_t row = 0; row < constant.rows(); ++row) {
      const float* w = &values[row * cols];
      float most = 0;
      for (size_t i = 0; i < cols; ++i) most = std::max(most, std::fabs(w[i]));
      const float step = most / 127;
      constant.scales.push_back(step * scale);
      for (size_t i = 0; i < cols; ++i) {
        stored[row * cols + i] = static_cast<int8_t>(change(w[i] / step));
      }
    }
    constant.data = std::as_bytes(std::span(stored));
    return Find(role, constant);
  }

  TempDir dir_;
  Checkpoint checkpoint_;
  Originals originals_;
};

constexpr WeightRole kGate0{Part::kGate, 0, false},
    kGate1{Part::kGate, 1, false}, kO0{Part::kO, 0, false},
    kQkv0{Part::kQkv, 0, false}, kNorm{Part::kFinalNorm, -1, false},
    kTable{Part::kEmbedding, -1, false};

TEST_F(DiagnoseTest, NothingIsWrong) {
  for (const WeightRole& role : {kGate0, kO0, kQkv0, kNorm, kTable}) {
    EXPECT_FALSE(Find(role, Values(role))) << Describe(role);
  }
  EXPECT_FALSE(FindInt8(kGate0, 1, [](float q) { return std::nearbyint(q); }));
}

TEST_F(DiagnoseTest, AnotherTensor) {
  const auto found = Find(kGate0, Values(kGate1));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->fault, Fault::kOtherTensor);
  EXPECT_EQ(found->other, kGate1);
}

TEST_F(DiagnoseTest, HeadsOfAFusedProduct) {
  std::vector<float> values = Values(kQkv0);  // q k v q k v, 8 rows each
  const auto swap = [&](int a, int b) {
    std::swap_ranges(&values[a * 128], &values[(a + 1) * 128],
                     &values[b * 128]);
  };
  swap(0, 1);
  EXPECT_EQ(Find(kQkv0, values)->fault, Fault::kHeadsQk);
  swap(0, 1);
  swap(4, 5);
  EXPECT_EQ(Find(kQkv0, values)->fault, Fault::kHeadsKv);
  swap(4, 5);
  swap(0, 3);
  EXPECT_EQ(Find(kQkv0, values)->fault, Fault::kHeadOrder);
  swap(0, 3);
  // Meta's order of the rows of q's first head.
  const std::vector<float> rows(values.begin(), values.begin() + 128);
  for (int i = 0; i < 8; ++i) {
    std::copy_n(&rows[(i / 2 + i % 2 * 4) * 16], 16, &values[i * 16]);
  }
  EXPECT_EQ(Find(kQkv0, values)->fault, Fault::kInterleaved);
}

TEST_F(DiagnoseTest, TransposedAndShifted) {
  std::vector<float> o = Values(kO0);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) std::swap(o[i * 16 + j], o[j * 16 + i]);
  }
  EXPECT_EQ(Find(kO0, o)->fault, Fault::kTransposed);
  std::vector<float> table = Values(kTable);
  std::rotate(table.begin(), table.begin() + 16, table.end());
  const auto shifted = Find(kTable, table);
  EXPECT_EQ(shifted->fault, Fault::kShifted);
  EXPECT_THAT(shifted->text, HasSubstr("row i + 1"));
}

TEST_F(DiagnoseTest, Numbers) {
  std::vector<float> values = Values(kGate0);
  values[40] = NAN;
  EXPECT_EQ(Find(kGate0, values)->fault, Fault::kNotFinite);
  EXPECT_THAT(Find(kGate0, values)->text, HasSubstr("row 2"));
  values[40] = 1000;
  EXPECT_EQ(Find(kGate0, values)->fault, Fault::kPartly);
  EXPECT_EQ(Find(kGate0, std::vector<float>(values.size()))->fault,
            Fault::kZero);
  values = Values(kGate0);
  for (float& value : values) value *= 1.5f;
  EXPECT_EQ(Find(kGate0, values)->fault, Fault::kScale);
  values = Values(kGate0);
  for (float& value : values) {
    value = std::bit_cast<float>((std::bit_cast<uint32_t>(value) + 0x8000) &
                                 0xffff0000u);
  }
  EXPECT_EQ(Find(kGate0, values)->fault, Fault::kPrecision);
  values = Values(kNorm);
  for (float& value : values) value += 1;
  EXPECT_EQ(Find(kNorm, values)->fault, Fault::kNormOffset);
}

TEST_F(DiagnoseTest, Quantisation) {
  const auto round = [](float q) { return std::nearbyint(q); };
  const auto truncated =
      FindInt8(kGate0, 1, [](float q) { return std::trunc(q); });
  ASSERT_TRUE(truncated);
  EXPECT_EQ(truncated->fault, Fault::kRounding);
  EXPECT_THAT(truncated->text, HasSubstr("towards zero"));
  const auto clipped = FindInt8(kGate0, 1, [](float q) {
    return std::clamp(std::nearbyint(q), -24.0f, 24.0f);
  });
  ASSERT_TRUE(clipped);
  EXPECT_EQ(clipped->fault, Fault::kCollapse);
  EXPECT_THAT(clipped->text, HasSubstr("cut off at 24"));
  const auto scaled = FindInt8(kGate0, 1.05f, round);
  ASSERT_TRUE(scaled);
  EXPECT_EQ(scaled->fault, Fault::kScale);
  EXPECT_NEAR(scaled->factor, 1.05, 0.002);
}

TEST_F(DiagnoseTest, AnythingElse) {
  std::vector<float> values = Values(kGate0);
  std::mt19937 generator(9);
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(generator);
  const auto random = Find(kGate0, values);
  EXPECT_EQ(random->fault, Fault::kDiffers);
  EXPECT_LT(std::fabs(random->correlation), 0.2);
  EXPECT_FALSE(random->low_rank);
}

TEST_F(DiagnoseTest, ByContent) {
  tflite::Constant constant = Constant(ElementType::kFloat32, kGate1);
  std::vector<float> values = Values(kGate1);
  constant.data = std::as_bytes(std::span(values));
  bool transposed = true;
  EXPECT_EQ(FindByContent(constant, originals_, &transposed), kGate1);
  EXPECT_FALSE(transposed);
  values[0] += 1;
  EXPECT_FALSE(FindByContent(constant, originals_, &transposed));
  // [in, out]
  const std::vector<float> rows = Values(kGate1);
  for (int i = 0; i < 24; ++i) {
    for (int j = 0; j < 16; ++j) values[j * 24 + i] = rows[i * 16 + j];
  }
  constant.shape = {16, 24};
  EXPECT_EQ(FindByContent(constant, originals_, &transposed), kGate1);
  EXPECT_TRUE(transposed);
}

// Integers of [-most, most], the largest number of each row at `clip` * most.
class CutOffTest : public DiagnoseTest {
 protected:
  Comparison Quantise(ElementType type, int most, float clip) {
    const std::vector<float> values = Values(kTable);
    constant_ = Constant(type, kTable);
    bytes_.clear();
    for (size_t begin = 0; begin < values.size(); begin += kCols) {
      float largest = 0;
      for (size_t i = begin; i < begin + kCols; ++i) {
        largest = std::max(largest, std::fabs(values[i]));
      }
      const float step = clip * largest / static_cast<float>(most);
      constant_.scales.push_back(step);
      for (size_t i = begin; i < begin + kCols; ++i) {
        const int q = std::clamp(
            static_cast<int>(std::nearbyint(values[i] / step)), -most, most);
        if (type == ElementType::kInt8) {
          bytes_.push_back(static_cast<uint8_t>(q));
        } else if (i % 2 == 0) {
          bytes_.push_back(static_cast<uint8_t>(q & 15));
        } else {
          bytes_.back() |= static_cast<uint8_t>(q << 4);
        }
      }
    }
    constant_.data = std::as_bytes(std::span(bytes_));
    original_ = Of(kTable);
    return Compare(constant_, original_, false);
  }

  static constexpr size_t kCols = 16, kRows = 32;
  tflite::Constant constant_;
  std::vector<uint8_t> bytes_;
  Original original_;
};

TEST_F(CutOffTest, IsRightWhereItMakesOthersFiner) {
  EXPECT_EQ(Quantise(ElementType::kInt4, 7, 1).cut_off, 0);
  const Comparison comparison = Quantise(ElementType::kInt4, 7, 0.9f);
  EXPECT_EQ(comparison.bad, 0);
  EXPECT_GE(comparison.cut_off, int64_t{kRows});
  EXPECT_LE(comparison.worst, kStepLimit);
  EXPECT_TRUE(comparison.ok());
}

TEST_F(CutOffTest, IsWrongWhereItDoesNot) {
  // What int4 gains by, int8 loses by: its steps are small already.
  EXPECT_EQ(Quantise(ElementType::kInt8, 127, 0.9f).bad_rows, int64_t{kRows});
  const Comparison comparison = Quantise(ElementType::kInt4, 7, 0.5f);
  EXPECT_EQ(comparison.bad_rows, int64_t{kRows});
  const Difference found = Diagnose(constant_, {0, kTable, "decode"}, original_,
                                    comparison, originals_);
  EXPECT_EQ(found.fault, Fault::kCollapse);
}

// A number may not be larger than what is cut off, and nothing else be wrong.
TEST_F(CutOffTest, OfOtherNumbersIsNoExcuse) {
  Quantise(ElementType::kInt4, 7, 0.9f);
  for (size_t i = 0; i < kCols / 2; ++i) {
    if (bytes_[i] % 16 == 7 || bytes_[i] % 16 == 9) continue;
    bytes_[i] ^= 1;
    break;
  }
  const Comparison comparison = Compare(constant_, original_, false);
  EXPECT_EQ(comparison.bad_rows, 1);
  EXPECT_EQ(comparison.first_bad_row, 0);
}

// By definition: r = M w / (n c^2), the product of r and M x is that of w and
// x. Rows of 16 in blocks of 4; the matrix is not symmetric.
TEST_F(DiagnoseTest, RotatedWeights) {
  const std::vector<float> matrix = {2,  2, 2, 2,  -2, 2,  -2, 2,
                                     -2, 2, 2, -2, -2, -2, 2,  2};
  const auto rotation = Rotation::From(4, std::as_bytes(std::span(matrix)));
  ASSERT_TRUE(rotation);
  const std::vector<float> plain = Values(kGate0);
  for (const bool back : {false, true}) {
    std::vector<float> rotated(plain.size());
    for (size_t i = 0; i < plain.size(); ++i) {
      double sum = 0;
      for (size_t j = 0; j < 4; ++j) {
        const size_t entry = back ? j * 4 + i % 4 : i % 4 * 4 + j;
        sum += double{matrix[entry]} * plain[i / 4 * 4 + j];
      }
      rotated[i] = static_cast<float>(sum / 16);
    }
    Original original = Of(kGate0);
    original.rotation = &*rotation;
    original.rotated_back = back;
    tflite::Constant constant = Constant(ElementType::kFloat32, kGate0);
    constant.data = std::as_bytes(std::span(rotated));
    EXPECT_TRUE(Compare(constant, original, false).ok());
    std::vector<float> part(3);
    Originals::Read(original, 2, 5, 3, part.data());
    EXPECT_THAT(part, ::testing::ElementsAreArray(&rotated[37], 3));
    original.rotated_back = !back;
    EXPECT_FALSE(Compare(constant, original, false).ok());
    rotated[77] *= 1.00001f;
    original.rotated_back = back;
    EXPECT_EQ(Compare(constant, original, false).bad, 1);
    constant.data = std::as_bytes(std::span(plain));
    const Comparison comparison = Compare(constant, original, false);
    const Difference found = Diagnose(constant, {0, kGate0, "decode"}, original,
                                      comparison, originals_);
    EXPECT_THAT(found.text, HasSubstr("is not rotated"));
  }
}

}  // namespace
}  // namespace verify_tflite
