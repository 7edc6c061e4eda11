#include "base/rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace verify_tflite {
namespace {

constexpr int64_t kMostSize = int64_t{1} << 20;  // squares do not overflow

bool IsNegativeInSylvester(int64_t row, int64_t column) {
  return std::popcount(static_cast<uint64_t>(row & column)) % 2 != 0;
}

// Rows as bits, `words` of 64 each.
bool AreOrthogonal(const std::vector<uint64_t>& rows, int64_t size,
                   int64_t words) {
  for (int64_t a = 0; a < size; ++a) {
    for (int64_t b = a + 1; b < size; ++b) {
      int64_t different = 0;
      for (int64_t w = 0; w < words; ++w) {
        different += std::popcount(rows[a * words + w] ^ rows[b * words + w]);
      }
      if (2 * different != size) return false;
    }
  }
  return true;
}

// Fast Walsh-Hadamard transform of one block.
void Transform(double* x, int64_t size) {
  for (int64_t half = 1; half < size; half *= 2) {
    for (int64_t begin = 0; begin < size; begin += 2 * half) {
      for (int64_t i = begin; i < begin + half; ++i) {
        const double a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
}

}  // namespace

std::optional<Rotation> Rotation::From(int64_t size,
                                       std::span<const std::byte> values) {
  if (size < 2 || size > kMostSize ||
      values.size() != static_cast<size_t>(size * size) * sizeof(float)) {
    return std::nullopt;
  }
  const auto at = [&](int64_t index) {
    float value;
    std::memcpy(&value, values.data() + index * int64_t{sizeof(float)},
                sizeof(float));
    return value;
  };
  const float magnitude = std::fabs(at(0));
  if (!std::isfinite(magnitude) || magnitude < 0x1p-60f) return std::nullopt;
  bool sylvester = std::has_single_bit(static_cast<uint64_t>(size));
  for (int64_t i = 0; i < size * size; ++i) {
    const float value = at(i);
    if (std::fabs(value) != magnitude) return std::nullopt;
    sylvester =
        sylvester && (value < 0) == IsNegativeInSylvester(i / size, i % size);
    if (!sylvester && size > kMostRows) return std::nullopt;
  }
  Rotation rotation(size, magnitude);
  if (sylvester) return rotation;
  const int64_t words = (size + 63) / 64;
  std::vector<uint64_t> rows(static_cast<size_t>(size * words));
  rotation.rows_.resize(static_cast<size_t>(size * size), 1);
  rotation.columns_ = rotation.rows_;
  for (int64_t i = 0; i < size * size; ++i) {
    if (at(i) > 0) continue;
    rotation.rows_[i] = -1;
    rotation.columns_[i % size * size + i / size] = -1;
    rows[i / size * words + i % size / 64] |= uint64_t{1} << (i % size % 64);
  }
  if (!AreOrthogonal(rows, size, words)) return std::nullopt;
  return rotation;
}

std::optional<Rotation> Rotation::Sylvester(int64_t size) {
  if (size < 2 || size > kMostSize ||
      !std::has_single_bit(static_cast<uint64_t>(size))) {
    return std::nullopt;
  }
  return Rotation(size, 1 / std::sqrt(static_cast<float>(size)));
}

void Rotation::Apply(std::span<double> values, bool transposed,
                     double factor) const {
  const std::vector<float>& columns = transposed ? rows_ : columns_;
  std::vector<double> sums(columns.empty() ? 0 : size_);
  for (int64_t begin = 0; begin + size_ <= std::ssize(values); begin += size_) {
    double* x = values.data() + begin;
    if (columns.empty()) {
      Transform(x, size_);
    } else {
      std::fill(sums.begin(), sums.end(), 0);
      for (int64_t j = 0; j < size_; ++j) {
        const float* column = columns.data() + j * size_;
        for (int64_t i = 0; i < size_; ++i) sums[i] += column[i] * x[j];
      }
      std::copy(sums.begin(), sums.end(), x);
    }
    for (int64_t i = 0; i < size_; ++i) x[i] *= factor;
  }
}

void Rotation::Multiply(std::span<double> values) const {
  Apply(values, false, magnitude_);
}

void Rotation::Undo(std::span<double> values) const {
  Apply(values, true, 1 / (static_cast<double>(size_) * magnitude_));
}

void Rotation::UndoTransposed(std::span<double> values) const {
  Apply(values, false, 1 / (static_cast<double>(size_) * magnitude_));
}

}  // namespace verify_tflite
