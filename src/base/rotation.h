// These rotations spread outliers over a block before it is quantised.
#ifndef VERIFY_TFLITE_BASE_ROTATION_H_
#define VERIFY_TFLITE_BASE_ROTATION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace verify_tflite {

// The matrix c H, where H is a Hadamard matrix: entries are 1 and -1, rows are
// orthogonal. Several threads may use it at once.
class Rotation {
 public:
  // Returns the rotation that `values` (float32, [size, size], row-major, of
  // any alignment) are. Returns nothing where they are no such matrix, or one
  // of more than kMostRows rows that is not Sylvester's (H of 2n is [[H, H],
  // [H, -H]]), because the test would take too long. Throws nothing.
  static std::optional<Rotation> From(int64_t size,
                                      std::span<const std::byte> values);
  static constexpr int64_t kMostRows = 1024;
  // Returns Sylvester's matrix over the root of its size, in float32. Returns
  // nothing where there is none of that size, or one beyond 2^20.
  static std::optional<Rotation> Sylvester(int64_t size);

  int64_t size() const { return size_; }
  double magnitude() const { return magnitude_; }  // c

  // Multiplies each block of size() numbers with the matrix, which is what
  // FULLY_CONNECTED does to a row. `values` has whole blocks.
  void Multiply(std::span<double> values) const;
  // They multiply with the inverse of the matrix, which is its transpose by
  // size() c^2, and with the inverse of the transpose.
  void Undo(std::span<double> values) const;
  void UndoTransposed(std::span<double> values) const;

  bool operator==(const Rotation&) const = default;

 private:
  Rotation(int64_t size, double magnitude)
      : size_(size), magnitude_(magnitude) {}

  void Apply(std::span<double> values, bool transposed, double factor) const;

  int64_t size_;
  double magnitude_;
  // 1 and -1, [size, size], and the transpose. Empty: Sylvester's matrix.
  std::vector<float> rows_, columns_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_ROTATION_H_
