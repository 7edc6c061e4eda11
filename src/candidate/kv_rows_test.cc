#include "candidate/kv_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr int64_t kSlots = 5;
constexpr int64_t kHeads = 2;
constexpr int64_t kSize = 3;

TensorSpec Cache(ElementType type, std::vector<int64_t> dims) {
  return {.name = "kv_cache_k_0", .type = type, .dims = std::move(dims)};
}

// A number that tells where it comes from.
float Value(int64_t slot, int64_t head, int64_t i) {
  return static_cast<float>(100 * slot + 10 * head + i);
}

std::vector<float> Rows(const TensorSpec& cache, size_t axis,
                        std::span<const std::byte> bytes, int64_t begin,
                        int64_t end) {
  return ReadPositions("m.tflite", cache, LayoutOf("m.tflite", cache, axis),
                       bytes, begin, end);
}

TEST(KvRows, EveryLayoutGivesTheSameRows) {
  struct Case {
    std::vector<int64_t> dims;
    size_t axis;
    // Index of the dimension (slot, head, element) at each place.
    int order[3];
  };
  const Case cases[] = {
      {{1, kSlots, kHeads, kSize}, 1, {0, 1, 2}},
      {{1, kHeads, kSlots, kSize}, 2, {1, 0, 2}},
      {{1, kHeads, kSize, kSlots}, 3, {1, 2, 0}},
  };
  std::vector<float> expected;
  for (int64_t slot = 1; slot < 4; ++slot) {
    for (int64_t head = 0; head < kHeads; ++head) {
      for (int64_t i = 0; i < kSize; ++i) {
        expected.push_back(Value(slot, head, i));
      }
    }
  }
  for (const Case& c : cases) {
    std::vector<float> stored;
    int64_t at[3];
    for (at[c.order[0]] = 0; at[c.order[0]] < c.dims[1]; ++at[c.order[0]]) {
      for (at[c.order[1]] = 0; at[c.order[1]] < c.dims[2]; ++at[c.order[1]]) {
        for (at[c.order[2]] = 0; at[c.order[2]] < c.dims[3]; ++at[c.order[2]]) {
          stored.push_back(Value(at[0], at[1], at[2]));
        }
      }
    }
    const TensorSpec cache = Cache(ElementType::kFloat32, c.dims);
    EXPECT_EQ(Rows(cache, c.axis, std::as_bytes(std::span(stored)), 1, 4),
              expected)
        << "positions in axis " << c.axis;
  }
}

TEST(KvRows, ARingWrapsRound) {
  const TensorSpec cache = Cache(ElementType::kFloat32, {1, 3, 1, 1});
  const float stored[] = {6, 7, 5};  // positions 5, 6, 7
  EXPECT_THAT(Rows(cache, 1, std::as_bytes(std::span(stored)), 5, 8),
              ElementsAre(5, 6, 7));
}

TEST(KvRows, Float16) {
  const TensorSpec cache = Cache(ElementType::kFloat16, {1, 7, 1, 1});
  const uint16_t stored[] = {0x3C00, 0xC000, 0x7BFF, 0x0001,
                             0x03FF, 0xFC00, 0x3555};
  EXPECT_THAT(
      Rows(cache, 1, std::as_bytes(std::span(stored)), 0, 7),
      ElementsAre(1, -2, 65504, std::ldexp(1.0f, -24), std::ldexp(1023.0f, -24),
                  -INFINITY, 0.333251953125f));
  const uint16_t nan[] = {0x7E00, 0, 0, 0, 0, 0, 0};
  EXPECT_TRUE(
      std::isnan(Rows(cache, 1, std::as_bytes(std::span(nan)), 0, 1).front()));
}

TEST(KvRows, Int8NeedsOneScale) {
  TensorSpec cache = Cache(ElementType::kInt8, {1, 3, 1, 1});
  const int8_t stored[] = {-128, 0, 127};
  const auto read = [&] {
    return Rows(cache, 1, std::as_bytes(std::span(stored)), 0, 3);
  };
  EXPECT_THAT(read, ThrowsMessage<Error>(HasSubstr("with one scale")));
  cache.scale = TensorScale{.scale = 0.5, .zero_point = -2};
  EXPECT_THAT(read(), ElementsAre(-63, 1, 64.5));
}

TEST(KvRows, RefusesWhatItCannotRead) {
  const auto layout = [](std::vector<int64_t> dims, size_t axis) {
    return
        [=] { LayoutOf("m.tflite", Cache(ElementType::kFloat32, dims), axis); };
  };
  EXPECT_THAT(layout({1, 4, 6}, 1),
              ThrowsMessage<Error>(HasSubstr("m.tflite")));
  EXPECT_THROW(layout({2, 4, 2, 3}, 1)(), Error);
  EXPECT_THROW(layout({1, 4, 2, 3}, 0)(), Error);
  EXPECT_THROW(layout({1, 4, 2, 3}, 4)(), Error);
  EXPECT_THROW(layout({1, -4, 2, 3}, 1)(), Error);

  const TensorSpec cache = Cache(ElementType::kFloat32, {1, 3, 1, 1});
  const float stored[3] = {};
  const auto bytes = std::as_bytes(std::span(stored));
  EXPECT_THROW(Rows(cache, 1, bytes.first(11), 0, 1), Error);
  EXPECT_THROW(Rows(cache, 1, bytes, 0, 4), Error);
  EXPECT_THROW(Rows(cache, 1, bytes, -1, 1), Error);
  EXPECT_THROW(Rows(cache, 1, bytes, 2, 1), Error);
  const TensorSpec words = Cache(ElementType::kInt32, {1, 3, 1, 1});
  EXPECT_THAT([&] { Rows(words, 1, bytes, 0, 1); },
              ThrowsMessage<Error>(HasSubstr("INT32")));
}

// The reader of all layouts is the judge of what is repeated.
TEST(RepeatPositions, InEveryLayout) {
  struct Case {
    std::vector<int64_t> dims;
    size_t axis;
  };
  for (const Case& c : {Case{{1, 7, 2, 3}, 1}, Case{{1, 2, 7, 3}, 2},
                        Case{{1, 2, 3, 7}, 3}}) {
    const TensorSpec cache{"kv_cache_k_0", ElementType::kFloat32, c.dims};
    std::vector<float> values(42);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i);
    }
    const KvLayout layout = LayoutOf("a", cache, c.axis);
    const auto bytes = std::as_writable_bytes(std::span(values));
    const auto read = [&](int64_t begin, int64_t end) {
      return ReadPositions("a", cache, layout, bytes, begin, end);
    };
    const std::vector<float> first = read(0, 2);
    const std::vector<float> last = read(6, 7);
    RepeatPositions(cache, c.axis, bytes, 2, 6);
    EXPECT_EQ(read(0, 2), first);
    EXPECT_EQ(read(2, 4), first);
    EXPECT_EQ(read(4, 6), first);
    EXPECT_EQ(read(6, 7), last);
    RepeatPositions(cache, c.axis, bytes, 2, 7);
    EXPECT_EQ(read(6, 7), read(0, 1));
  }
}

TEST(ReadStateTest, OldestPositionFirst) {
  TensorSpec state{"kv_cache_c_0", ElementType::kFloat32, {1, 3, 2}};
  const std::vector<float> stored = {1, 10, 2, 20, 3, 30};
  const auto bytes = std::as_bytes(std::span(stored));
  const StateRows rows = ReadState("m.tflite", state, bytes);
  EXPECT_EQ(rows.rows, 2);
  EXPECT_EQ(rows.width, 3);
  EXPECT_THAT(rows.values, ElementsAre(1, 2, 3, 10, 20, 30));
  state.type = ElementType::kFloat16;
  EXPECT_THAT([&] { ReadState("m.tflite", state, bytes); },
              ThrowsMessage<Error>(HasSubstr("expected a state of FLOAT32")));
  state = {"kv_cache_c_0", ElementType::kFloat32, {3, 2}};
  EXPECT_THROW(ReadState("m.tflite", state, bytes), Error);
}

}  // namespace
}  // namespace verify_tflite
