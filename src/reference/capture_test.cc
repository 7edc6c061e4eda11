// Activations of every stage against hooks in transformers' modules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"
#include "base/testing.h"
#include "reference/reference.h"

namespace verify_tflite {
namespace {

using Tokens = std::vector<int32_t>;

struct Tensor {
  int64_t width = 0;
  std::vector<float> values;
};
using Tensors = std::map<std::pair<std::string, int64_t>, Tensor>;

CaptureFn Into(Tensors& tensors) {
  return [&tensors](const Captured& c) {
    EXPECT_EQ(static_cast<int64_t>(c.values.size()), c.rows * c.width);
    const auto key = std::pair(std::string(NameOf(c.stage)), c.layer);
    EXPECT_FALSE(tensors.contains(key)) << key.first;
    tensors[key] = {c.width, {c.values.begin(), c.values.end()}};
  };
}

void Ignore(size_t, int64_t, std::span<const float>) {}

// Relative to the largest number of the tensor.
double WorstError(const std::vector<float>& expected,
                  const std::vector<float>& found) {
  double largest = 0;
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::fabs(double{expected[i]}));
    const double difference = std::fabs(double{expected[i]} - found[i]);
    if (!(difference <= worst)) worst = difference;  // NaN, too
  }
  return worst / largest;
}

class Capture : public testing::TestWithParam<const char*> {};

TEST_P(Capture, IsWhatTransformersComputes) {
  const std::string name = GetParam();
  const auto recorded = ReadJsonFile(ExpectedPath("inner/" + name + ".json"));
  const auto tokens = recorded["token_ids"].get<Tokens>();
  const std::vector<float> values = ReadFloats(
      ExpectedPath("inner/" + recorded["values_file"].get<std::string>()));
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath(name));
  Reference reference = Reference::Open(checkpoint, {.num_threads = 2});
  Sequence sequence = reference.NewSequence();
  const auto rows = static_cast<int64_t>(tokens.size());
  const Reference::Item item{&sequence, tokens, rows};
  Tensors captured;
  reference.Score({&item, 1}, Ignore, Into(captured));

  size_t at = 0;
  for (const auto& tensor : recorded["tensors"]) {
    const auto key = std::pair(tensor["stage"].get<std::string>(),
                               tensor["layer"].get<int64_t>());
    SCOPED_TRACE(key.first + " of layer " + std::to_string(key.second));
    const int64_t width = tensor["width"];
    const auto size = static_cast<size_t>(rows * width);
    ASSERT_LE(at + size, values.size());
    const std::vector<float> expected(values.begin() + at,
                                      values.begin() + at + size);
    at += size;
    ASSERT_TRUE(captured.contains(key));
    EXPECT_EQ(captured[key].width, width);
    ASSERT_EQ(captured[key].values.size(), size);
    EXPECT_LE(WorstError(expected, captured[key].values), 1e-5);
  }
  EXPECT_EQ(captured.size(), recorded["tensors"].size());
}

INSTANTIATE_TEST_SUITE_P(Models, Capture,
                         testing::Values("tiny", "ref_gemma2", "ref_qwen3",
                                         "ref_phi", "ref_smollm3", "ref_gemma3",
                                         "ref_granite", "ref_olmo2"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

// The second part of a text, and of two texts in one pass, has the rows that
// the whole text has there; and no bit of the logits depends on capturing.
TEST(CaptureTest, RowsOfAllItemsOneAfterAnother) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  Reference reference = Reference::Open(checkpoint, {.num_threads = 2});
  const Tokens text = {5, 17, 300, 42, 7, 1000};
  const std::span<const int32_t> all(text);
  std::vector<float> plain;
  std::vector<float> watched;
  const auto into = [](std::vector<float>& logits) {
    return [&logits](size_t, int64_t, std::span<const float> row) {
      logits.insert(logits.end(), row.begin(), row.end());
    };
  };
  Sequence whole = reference.NewSequence();
  Tensors expected;
  const Reference::Item item{&whole, all, 6};
  reference.Score({&item, 1}, into(watched), Into(expected));
  whole.Truncate(0);
  reference.Score({&item, 1}, into(plain));
  ASSERT_EQ(plain.size(), watched.size());
  EXPECT_EQ(std::memcmp(plain.data(), watched.data(), plain.size() * 4), 0);

  Sequence a = reference.NewSequence();
  Sequence b = reference.NewSequence();
  const Reference::Item first{&a, all.first(4), 0};
  reference.Score({&first, 1}, Ignore);
  const std::vector<Reference::Item> items = {{&a, all.subspan(4), 2},
                                              {&b, all, 0}};
  Tensors found;
  reference.Score(items, Ignore, Into(found));
  for (const auto& [key, tensor] : expected) {
    SCOPED_TRACE(key.first);
    const auto tail = static_cast<size_t>(4 * tensor.width);
    std::vector<float> rows(tensor.values.begin() + tail, tensor.values.end());
    // Logits are wanted of the first item alone.
    if (key.first != "final_norm" && key.first != "head") {
      rows.insert(rows.end(), tensor.values.begin(), tensor.values.end());
    }
    ASSERT_EQ(found[key].values.size(), rows.size());
    EXPECT_LE(WorstError(rows, found[key].values), 1e-5);
  }
}

TEST(CaptureTest, WhatItThrowsPassesThrough) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  Reference reference = Reference::Open(checkpoint, {});
  Sequence sequence = reference.NewSequence();
  const Tokens text = {5, 17};
  const Reference::Item item{&sequence, text, 0};
  EXPECT_THROW(reference.Score({&item, 1}, Ignore,
                               [](const Captured&) { throw Error("stop"); }),
               Error);
}

// The products of a layer, and what each reads.
struct Product {
  Stage stage;
  const char* input;
};
constexpr Product kProducts[] = {
    {Stage::kQueryProjection, "input_norm"},
    {Stage::kKeyProjection, "input_norm"},
    {Stage::kValueProjection, "input_norm"},
    {Stage::kAttentionOutput, "attention"},
    {Stage::kGateProjection, "mlp_norm"},
    {Stage::kUpProjection, "mlp_norm"},
    {Stage::kMlpOutput, "mlp_inner"},
};

// What transformers recorded of "tiny".
class RecordedTensors {
 public:
  RecordedTensors() {
    const auto recorded = ReadJsonFile(ExpectedPath("inner/tiny.json"));
    const std::vector<float> values = ReadFloats(
        ExpectedPath("inner/" + recorded["values_file"].get<std::string>()));
    rows_ = recorded["token_ids"].size();
    size_t at = 0;
    for (const auto& tensor : recorded["tensors"]) {
      Tensor& t = tensors_[{tensor["stage"], tensor["layer"]}];
      t.width = tensor["width"];
      const size_t size = rows_ * static_cast<size_t>(t.width);
      t.values.assign(values.begin() + static_cast<int64_t>(at),
                      values.begin() + static_cast<int64_t>(at + size));
      at += size;
    }
  }
  size_t rows() const { return rows_; }
  std::vector<float> Row(std::string_view stage, int64_t layer,
                         size_t row) const {
    const Tensor& t = tensors_.at({std::string(stage), layer});
    const auto from = t.values.begin() + static_cast<int64_t>(row) * t.width;
    return {from, from + t.width};
  }

 private:
  size_t rows_ = 0;
  Tensors tensors_;
};

double Norm(const std::vector<float>& values) {
  double squares = 0;
  for (const float value : values) squares += double{value} * value;
  return std::sqrt(squares);
}

// The limit that local verification holds it to.
constexpr double kProbedLimit = 4e-6;

TEST(ReferenceProbe, AccusesNoProductOfTransformers) {
  const RecordedTensors recorded;
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Reference reference =
        Reference::Open(checkpoint, {.probe_seed = seed});
    for (const Product& product : kProducts) {
      for (int64_t layer = 0; layer < 4; ++layer) {
        for (size_t row = 0; row < recorded.rows(); ++row) {
          EXPECT_LT(
              reference.Probe(product.stage, layer,
                              recorded.Row(product.input, layer, row), false,
                              recorded.Row(NameOf(product.stage), layer, row)),
              kProbedLimit)
              << NameOf(product.stage) << " of layer " << layer << ", row "
              << row << ", seed " << seed;
        }
      }
    }
  }
}

// Whichever output it is.
TEST(ReferenceProbe, FindsOneWrongNumber) {
  const RecordedTensors recorded;
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  const Reference reference = Reference::Open(checkpoint, {.probe_seed = 5});
  const size_t row = recorded.rows() / 2;
  constexpr double kOff = 1e-4;
  for (const Product& product : kProducts) {
    for (int64_t layer = 0; layer < 4; ++layer) {
      const std::vector<float> x = recorded.Row(product.input, layer, row);
      const std::vector<float> right =
          recorded.Row(NameOf(product.stage), layer, row);
      for (size_t i = 0; i < right.size(); ++i) {
        std::vector<float> wrong = right;
        wrong[i] += static_cast<float>(kOff * Norm(right));
        const double share =
            reference.Probe(product.stage, layer, x, false, wrong) / kOff;
        SCOPED_TRACE(NameOf(product.stage));
        EXPECT_GT(share, 0.45) << "layer " << layer << ", output " << i;
        EXPECT_LT(share, 1.5) << "layer " << layer << ", output " << i;
      }
    }
  }
}

// Their differences cancel where both are multiplied by the same.
TEST(ReferenceProbe, FindsNumbersThatChangePlaces) {
  const RecordedTensors recorded;
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  const size_t row = recorded.rows() / 2;
  const std::vector<float> x = recorded.Row("mlp_norm", 1, row);
  const std::vector<float> right = recorded.Row("gate_projection", 1, row);
  std::vector<float> wrong = right;
  std::swap(wrong[3], wrong[4]);
  const double off =
      std::sqrt(2.0) * std::fabs(right[3] - right[4]) / Norm(right);
  int64_t below = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Reference reference =
        Reference::Open(checkpoint, {.probe_seed = seed});
    const double found =
        reference.Probe(Stage::kGateProjection, 1, x, false, wrong);
    EXPECT_GT(found, kProbedLimit) << "seed " << seed;
    below += found < 0.1 * off;
  }
  EXPECT_LE(below, 4);
}

TEST(ReferenceProbe, FindsWhatIsNotFinite) {
  const RecordedTensors recorded;
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  const Reference reference = Reference::Open(checkpoint, {});
  std::vector<float> wrong = recorded.Row("mlp_output", 2, 1);
  wrong[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(reference.Probe(Stage::kMlpOutput, 2,
                            recorded.Row("mlp_inner", 2, 1), false, wrong),
            std::numeric_limits<double>::infinity());
}

// Rows that are probed have no products but those that `capture` writes.
TEST(CaptureTest, GoesOnWithWhatIsWrittenForProbedRows) {
  const Checkpoint checkpoint = Checkpoint::Open(ModelPath("tiny"));
  Reference reference = Reference::Open(checkpoint, {.num_threads = 2});
  const Tokens text = {5, 17, 300, 42, 7, 1000};
  const auto score = [&](const Reference::Item& item,
                         const CaptureFn& capture) {
    std::vector<float> logits;
    reference.Score(
        {&item, 1},
        [&](size_t, int64_t, std::span<const float> row) {
          logits.insert(logits.end(), row.begin(), row.end());
        },
        capture);
    return logits;
  };
  Sequence whole = reference.NewSequence();
  Tensors all;
  const std::vector<float> expected = score({&whole, text, 6}, Into(all));

  constexpr size_t kBegin = 2;
  constexpr size_t kEnd = 4;
  const auto write = [&](float factor) {
    return [&all, factor](const Captured& captured) {
      EXPECT_EQ(captured.without_probed,
                IsLinear(captured.stage) && captured.layer >= 0)
          << NameOf(captured.stage);
      if (!captured.without_probed) return;
      const Tensor& tensor =
          all.at({std::string(NameOf(captured.stage)), captured.layer});
      for (size_t row = kBegin; row < kEnd; ++row) {
        for (size_t i = 0; i < static_cast<size_t>(captured.width); ++i) {
          const size_t at = row * static_cast<size_t>(captured.width) + i;
          captured.values[at] = factor * tensor.values[at];
        }
      }
    };
  };
  Sequence probed = reference.NewSequence();
  const Reference::Item item{&probed, text, 6, kBegin, kEnd};
  EXPECT_LE(WorstError(expected, score(item, write(1))), 1e-5);
  Sequence other = reference.NewSequence();
  const Reference::Item wrong{&other, text, 6, kBegin, kEnd};
  EXPECT_GT(WorstError(expected, score(wrong, write(2))), 1e-3);
}

}  // namespace
}  // namespace verify_tflite
