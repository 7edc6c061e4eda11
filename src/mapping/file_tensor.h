// A checkpoint's tensor, as constants of a model file hold it.
#ifndef VERIFY_TFLITE_MAPPING_FILE_TENSOR_H_
#define VERIFY_TFLITE_MAPPING_FILE_TENSOR_H_

#include <cstdint>
#include <tuple>
#include <vector>

#include "base/rotation.h"
#include "mapping/stored.h"
#include "tflite/file.h"

namespace verify_tflite {

// Rows [first, first + count) of the tensor, which a constant holds from its
// row `stored` on; transposed: from its column `stored` on. The constant has
// offset + factor * w; with rotated_back, which must divide its columns, that
// is what the rotation makes of it.
struct FilePiece {
  int64_t first = 0;
  int64_t count = 0;
  const tflite::Constant* constant = nullptr;
  int64_t stored = 0;
  bool transposed = false;
  double factor = 1;
  double offset = 0;
  const Rotation* rotated_back = nullptr;
  auto operator<=>(const FilePiece&) const = default;
};

// Whether the pieces, in the order of `first`, are all of `rows` rows. One that
// is there twice is taken once, as first given.
bool SortPieces(std::vector<FilePiece>& pieces, int64_t rows);

class FileTensor {
 public:
  // [rows, cols] or, as [rows, 1], a vector. `pieces` are sorted, all of the
  // tensor, and lie within constants whose data are pages of a mapped file that
  // nobody wrote to; these must outlive this.
  FileTensor(std::vector<FilePiece> pieces, int64_t cols);

  // `count` elements, row-major, from element `first` on. Safe to call from
  // several threads. Pages that were read are let go of.
  void Read(int64_t first, int64_t count, float* out) const;

 private:
  struct Part {
    FilePiece piece;
    StoredReader reader;
  };

  const Part& PartAt(int64_t row) const;
  // Within a row, rotated back.
  void ReadBlocks(const Part& part, int64_t row, int64_t first, int64_t count,
                  float* out) const;
  void ReadWithinRow(const Part& part, int64_t row, int64_t first,
                     int64_t count, float* out) const;
  void ReadRows(const Part& part, int64_t row, int64_t count, float* out) const;
  void ReadTransposed(const Part& part, int64_t row, int64_t count,
                      float* out) const;
  void Drop(const Part& part, int64_t row, int64_t count) const;

  std::vector<Part> parts_;
  int64_t cols_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_FILE_TENSOR_H_
