#include "mapping/file_tensor.h"

#include <algorithm>
#include <array>

namespace verify_tflite {
namespace {

// Columns of a transposed constant that are read at once: a line of the cache
// of each stored row, and as many lines of the result.
constexpr int64_t kColumnsAtOnce = 64;

// `values` are whole blocks.
void RotateBack(const FilePiece& piece, int64_t count, float* values) {
  if (piece.rotated_back == nullptr) return;
  thread_local std::vector<double> wide;
  wide.assign(values, values + count);
  piece.rotated_back->Multiply(wide);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(wide[i]);
}

// w of offset + factor * w.
void Undo(const FilePiece& piece, int64_t count, float* values) {
  if (piece.factor == 1 && piece.offset == 0) return;
  for (int64_t i = 0; i < count; ++i) {
    values[i] =
        static_cast<float>((double{values[i]} - piece.offset) / piece.factor);
  }
}

}  // namespace

bool SortPieces(std::vector<FilePiece>& pieces, int64_t rows) {
  std::stable_sort(
      pieces.begin(), pieces.end(),
      [](const FilePiece& a, const FilePiece& b) { return a.first < b.first; });
  pieces.erase(std::unique(pieces.begin(), pieces.end(),
                           [](const FilePiece& a, const FilePiece& b) {
                             return a.first == b.first && a.count == b.count;
                           }),
               pieces.end());
  int64_t end = 0;
  for (const FilePiece& piece : pieces) {
    if (piece.first != end || piece.count <= 0) return false;
    end += piece.count;
  }
  return end == rows;
}

FileTensor::FileTensor(std::vector<FilePiece> pieces, int64_t cols)
    : cols_(cols) {
  for (const FilePiece& piece : pieces) {
    parts_.push_back({piece, StoredReader(*piece.constant)});
  }
}

const FileTensor::Part& FileTensor::PartAt(int64_t row) const {
  const auto behind = std::upper_bound(
      parts_.begin(), parts_.end(), row,
      [](int64_t r, const Part& part) { return r < part.piece.first; });
  return *(behind - 1);
}

void FileTensor::Read(int64_t first, int64_t count, float* out) const {
  while (count > 0) {
    const int64_t row = first / cols_, col = first % cols_;
    const Part& part = PartAt(row);
    int64_t done;
    if (col != 0 || count < cols_) {
      done = std::min(cols_ - col, count);
      ReadBlocks(part, row, col, done, out);
    } else {
      const FilePiece& piece = part.piece;
      const int64_t rows =
          std::min(piece.first + piece.count - row, count / cols_);
      done = rows * cols_;
      ReadRows(part, row, rows, out);
      RotateBack(piece, done, out);
    }
    Undo(part.piece, done, out);
    first += done;
    count -= done;
    out += done;
  }
}

void FileTensor::ReadBlocks(const Part& part, int64_t row, int64_t first,
                            int64_t count, float* out) const {
  if (part.piece.rotated_back == nullptr) {
    ReadWithinRow(part, row, first, count, out);
    return;
  }
  const int64_t size = part.piece.rotated_back->size();
  const int64_t begin = first / size * size;
  const int64_t end = (first + count + size - 1) / size * size;
  std::vector<float> blocks(static_cast<size_t>(end - begin));
  ReadWithinRow(part, row, begin, end - begin, blocks.data());
  RotateBack(part.piece, end - begin, blocks.data());
  std::copy_n(blocks.begin() + (first - begin), count, out);
}

void FileTensor::ReadWithinRow(const Part& part, int64_t row, int64_t first,
                               int64_t count, float* out) const {
  const int64_t stored = part.piece.stored + row - part.piece.first;
  if (!part.piece.transposed) {
    part.reader.Read(stored, first, count, out);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    part.reader.Read(first + i, stored, 1, out + i);
  }
}

void FileTensor::ReadRows(const Part& part, int64_t row, int64_t count,
                          float* out) const {
  if (part.piece.transposed) {
    ReadTransposed(part, row, count, out);
  } else {
    const int64_t stored = part.piece.stored + row - part.piece.first;
    for (int64_t i = 0; i < count; ++i) {
      part.reader.Read(stored + i, 0, cols_, out + i * cols_);
    }
  }
  Drop(part, row, count);
}

void FileTensor::ReadTransposed(const Part& part, int64_t row, int64_t count,
                                float* out) const {
  std::array<float, kColumnsAtOnce> block;
  const int64_t stored = part.piece.stored + row - part.piece.first;
  for (int64_t begin = 0; begin < count; begin += kColumnsAtOnce) {
    const int64_t n = std::min(kColumnsAtOnce, count - begin);
    for (int64_t i = 0; i < cols_; ++i) {
      part.reader.Read(i, stored + begin, n, block.data());
      for (int64_t j = 0; j < n; ++j) out[(begin + j) * cols_ + i] = block[j];
    }
  }
}

void FileTensor::Drop(const Part& part, int64_t row, int64_t count) const {
  const FilePiece& piece = part.piece;
  const tflite::Constant& constant = *piece.constant;
  if (piece.transposed) {
    // All of its rows are read for each block of columns.
    if (row + count == piece.first + piece.count) DropPages(constant.data);
    return;
  }
  const size_t row_bytes =
      constant.data.size() / static_cast<size_t>(constant.rows());
  const int64_t stored = piece.stored + row - piece.first;
  DropPages(constant.data.subspan(static_cast<size_t>(stored) * row_bytes,
                                  static_cast<size_t>(count) * row_bytes));
}

}  // namespace verify_tflite
