// SPDX-License-Identifier: Apache-2.0
// The constants of a .tflite file.
#ifndef VERIFY_TFLITE_TFLITE_CONSTANT_H_
#define VERIFY_TFLITE_TFLITE_CONSTANT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/number.h"

namespace verify_tflite::tflite {

struct File;

// A constant is one however many tensors of however many graphs view it alike.
// With scales of its own in one graph it is another constant there.
struct Constant {
  std::string name;  // of the first tensor that views it
  // kUnknown: of a type or quantisation that is not read. INT32 and INT64 are
  // read with scales, which the biases of integer products have; without, they
  // are shapes and places.
  ElementType type = ElementType::kUnknown;
  std::string type_name;       // "INT8 per channel", …
  std::vector<int64_t> shape;  // product(shape) elements fill `data`
  std::span<const std::byte> data;
  // w = scale (q - zero_point). Empty scales: not quantised. One, or one for
  // each index of `axis`.
  std::vector<float> scales;
  std::vector<int64_t> zero_points;  // empty: 0
  int64_t axis = 0;
  // Not 0: scales are instead for blocks of that many elements of a row,
  // [elements / block_size] of float16 or float32, row by row.
  int64_t block_size = 0;
  std::span<const std::byte> block_scales;
  bool half_block_scales = false;

  int64_t elements() const;  // 0: more than can be, of a type not read here
  // As a matrix: all but the last dimension, and the last; a vector, of
  // whatever rank, is [n, 1].
  int64_t rows() const;
  int64_t cols() const;
};

// Fills `file.constants` and the tensors' numbers of them. Throws Error as
// File::CheckConstants does.
void AddConstants(File& file);

// Scales of 0, which quantisers write for rows or blocks of zeros and which no
// runtime loads.
struct ZeroScales {
  std::string name;       // of the first constant that has one
  std::string type_name;  // of it
  int64_t row = 0;        // of the first in it; of one for a tensor 0
  int64_t count = 0;      // in it
  int64_t constants = 0;  // that have one; 0: none
};
ZeroScales FindZeroScales(const File& file);
std::string Describe(const ZeroScales& scales);

}  // namespace verify_tflite::tflite

#endif  // VERIFY_TFLITE_TFLITE_CONSTANT_H_
