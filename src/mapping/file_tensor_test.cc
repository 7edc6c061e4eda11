#include "mapping/file_tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <span>

namespace verify_tflite {
namespace {

using ::testing::ElementsAre;

// `values` must be less than a page: whole pages are let go of after reading,
// as those of a file can be.
tflite::Constant Constant(const std::vector<float>& values,
                          std::vector<int64_t> shape) {
  tflite::Constant constant;
  constant.type = ElementType::kFloat32;
  constant.shape = std::move(shape);
  constant.data = std::as_bytes(std::span(values));
  return constant;
}

std::vector<float> Numbers(int64_t count, float first) {
  std::vector<float> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

std::vector<float> Read(const FileTensor& tensor, int64_t first,
                        int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  tensor.Read(first, count, values.data());
  return values;
}

// Every range is that part of the whole.
void ExpectRanges(const FileTensor& tensor, int64_t elements) {
  const std::vector<float> whole = Read(tensor, 0, elements);
  for (int64_t first = 0; first < elements; ++first) {
    for (int64_t count = 0; first + count <= elements; ++count) {
      ASSERT_EQ(Read(tensor, first, count),
                std::vector<float>(whole.begin() + first,
                                   whole.begin() + first + count))
          << first << " " << count;
    }
  }
}

TEST(SortPieces, MustBeAllOfTheTensor) {
  std::vector<FilePiece> pieces = {{.first = 2, .count = 3},
                                   {.first = 0, .count = 2}};
  EXPECT_TRUE(SortPieces(pieces, 5));
  EXPECT_EQ(pieces[0].first, 0);
  EXPECT_FALSE(SortPieces(pieces, 6));
  EXPECT_FALSE(SortPieces(pieces, 4));
  pieces.push_back({.first = 1, .count = 1});
  EXPECT_FALSE(SortPieces(pieces, 5));
  pieces.clear();
  EXPECT_FALSE(SortPieces(pieces, 5));
}

TEST(SortPieces, TakesTheSameOnce) {
  std::vector<FilePiece> pieces = {{.first = 0, .count = 2, .stored = 7},
                                   {.first = 0, .count = 2, .stored = 9}};
  EXPECT_TRUE(SortPieces(pieces, 2));
  EXPECT_THAT(pieces, ElementsAre(FilePiece{.count = 2, .stored = 7}));
}

TEST(FileTensor, PiecesOfOneConstantInAnotherOrder) {
  const std::vector<float> values = Numbers(12, 0);
  const tflite::Constant constant = Constant(values, {4, 3});
  std::vector<FilePiece> pieces = {
      {.first = 0, .count = 1, .constant = &constant, .stored = 2},
      {.first = 1, .count = 2, .constant = &constant, .stored = 0}};
  const FileTensor tensor(pieces, 3);
  EXPECT_THAT(Read(tensor, 0, 9), ElementsAre(6, 7, 8, 0, 1, 2, 3, 4, 5));
  ExpectRanges(tensor, 9);
}

TEST(FileTensor, FactorAndOffsetAreUndone) {
  const std::vector<float> values = {1.5f, 2.0f, 3.0f};
  const tflite::Constant constant = Constant(values, {3});
  const FilePiece piece{
      .count = 3, .constant = &constant, .factor = 0.5, .offset = 1};
  EXPECT_THAT(Read(FileTensor({piece}, 1), 0, 3), ElementsAre(1, 2, 4));
}

// More columns than are read at once.
TEST(FileTensor, Transposed) {
  constexpr int64_t kRows = 150, kCols = 5, kStored = 2;
  const std::vector<float> values = Numbers((kRows + kStored) * kCols, 0);
  const tflite::Constant constant = Constant(values, {kCols, kRows + kStored});
  const FileTensor tensor({{.count = kRows,
                            .constant = &constant,
                            .stored = kStored,
                            .transposed = true}},
                          kCols);
  const std::vector<float> whole = Read(tensor, 0, kRows * kCols);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kCols; ++c) {
      ASSERT_EQ(whole[static_cast<size_t>(r * kCols + c)],
                static_cast<float>(c * (kRows + kStored) + kStored + r));
    }
  }
  ExpectRanges(tensor, kRows * kCols);
}

// Two blocks in a row; the matrix is not symmetric.
TEST(FileTensor, RotatesBack) {
  const std::vector<float> matrix = {1, 1, 1, -1};
  const std::vector<float> turned = {1, -1, 1, 1};
  const std::vector<float> values = Numbers(12, 1);
  const tflite::Constant constant = Constant(values, {3, 4});
  const auto rotation = Rotation::From(2, std::as_bytes(std::span(matrix)));
  const auto other = Rotation::From(2, std::as_bytes(std::span(turned)));
  ASSERT_TRUE(rotation && other);
  const FileTensor tensor({{.count = 3,
                            .constant = &constant,
                            .factor = 2,
                            .rotated_back = &*rotation}},
                          4);
  ExpectRanges(tensor, 12);
  EXPECT_THAT(Read(tensor, 0, 6), ElementsAre(1.5, -0.5, 3.5, -0.5, 5.5, -0.5));
  const FileTensor by_other(
      {{.count = 3, .constant = &constant, .rotated_back = &*other}}, 4);
  EXPECT_THAT(Read(by_other, 4, 4), ElementsAre(-1, 11, -1, 15));
}

}  // namespace
}  // namespace verify_tflite
