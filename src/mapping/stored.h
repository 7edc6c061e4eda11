// Stored numbers as float32.
#ifndef VERIFY_TFLITE_MAPPING_STORED_H_
#define VERIFY_TFLITE_MAPPING_STORED_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/tensor.h"
#include "tflite/file.h"

namespace verify_tflite {

// `count` elements of a checkpoint's tensor from element `first` on.
void ToFloats(const TensorView& tensor, int64_t first, int64_t count,
              float* out);

// Lets go of the whole pages of a file's mapping in `bytes`: what only one pass
// reads need not stay in the program's memory. Not for memory that was written
// to, which would be lost.
void DropPages(std::span<const std::byte> bytes);

// Reads a constant row by row. One for each thread.
class StoredReader {
 public:
  explicit StoredReader(const tflite::Constant& constant);

  // Row `row` dequantised; of it `count` elements from `first` on.
  void Read(int64_t row, float* out) const { Read(row, 0, cols_, out); }
  void Read(int64_t row, int64_t first, int64_t count, float* out) const;
  // The same as stored: q of a quantised constant, else as Read.
  void ReadStored(int64_t row, float* out) const {
    ReadStored(row, 0, cols_, out);
  }
  // What one unit of rounding is: of a quantised constant the scale; else, at
  // the magnitude of `original`, the spacing of the type's numbers.
  void Steps(int64_t row, const float* original, float* out) const;
  bool quantised() const { return quantised_; }

 private:
  void ReadStored(int64_t row, int64_t first, int64_t count, float* out) const;
  // Scale and zero point of an element.
  float ScaleAt(int64_t row, int64_t col) const;
  int64_t AxisIndex(int64_t row, int64_t col) const;

  const tflite::Constant& constant_;
  int64_t cols_;
  bool quantised_;
  bool scale_per_row_ = true;
  int64_t stride_ = 1;  // elements from one index of the axis to the next
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_STORED_H_
