// Activations of every stage against hooks in transformers' modules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
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
                                         "ref_phi", "ref_smollm3",
                                         "ref_gemma3"),
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

}  // namespace
}  // namespace verify_tflite
