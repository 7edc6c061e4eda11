// Is a constant the rounding of what the checkpoint has?
#ifndef VERIFY_TFLITE_AUDIT_COMPARE_H_
#define VERIFY_TFLITE_AUDIT_COMPARE_H_

#include <cstdint>
#include <vector>

#include "audit/graph.h"
#include "audit/originals.h"
#include "audit/stored.h"

namespace verify_tflite {

// Rounding to the nearest is off by half a step at most. The rest is float
// rounding of w / scale, 127 * 2^-24 of a step, and of scales kept as float16,
// which the quantiser divides by before it rounds them, or after.
inline constexpr double kStepLimit = 0.501;

struct Comparison {
  int64_t elements = 0;
  int64_t bad = 0;       // beyond kStepLimit, or not finite
  int64_t bad_rows = 0;  // with such elements
  int64_t first_bad_row = -1;
  int64_t rows = 0;
  double worst = 0;  // |dequantised - original| / step; infinity with NaNs
  bool ok() const { return elements > 0 && bad == 0; }
};

// Whether the two have the same shape. `transposed`: the constant is [in, out].
bool SameShape(const StoredConstant& constant, const Original& original,
               bool transposed);

// Reads rows of both; what they have in common. One for each thread.
class RowPair {
 public:
  RowPair(const StoredConstant& constant, const Original& original,
          bool transposed);

  // Loads row `row` of the constant.
  void Load(int64_t row);
  // Largest error of the loaded row in steps; infinity with NaNs.
  double Worst() const;
  int64_t CountBad() const;

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const std::vector<float>& stored() const { return stored_; }
  const std::vector<float>& original() const { return original_; }
  const std::vector<float>& steps() const { return steps_; }
  const StoredReader& reader() const { return reader_; }

 private:
  const Original& expected_;
  bool transposed_;
  StoredReader reader_;
  int64_t rows_;
  int64_t cols_;
  double limit_;
  std::vector<float> stored_, original_, steps_;
};

// All of it. The two must have the same shape. `drop`: the constant's bytes are
// pages of a file, mapped and unchanged, and are let go of after reading, as
// the original's are.
Comparison Compare(const StoredConstant& constant, const Original& original,
                   bool transposed, bool drop = false);

// Some rows alone, evenly over the whole: cheap, to rule out.
bool MayBe(const StoredConstant& constant, const Original& original,
           bool transposed);

// |dequantised - original|^2 over some rows, relative to |original|^2: which of
// several originals is the nearest. Infinity with NaNs.
double Distance(const StoredConstant& constant, const Original& original,
                bool transposed);

// At most `count` rows, evenly over `rows`, first and last among them.
std::vector<int64_t> SampleRows(int64_t rows, int64_t count);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_AUDIT_COMPARE_H_
