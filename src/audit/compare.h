// Is a constant the rounding of what the checkpoint has?
#ifndef VERIFY_TFLITE_AUDIT_COMPARE_H_
#define VERIFY_TFLITE_AUDIT_COMPARE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "audit/originals.h"
#include "audit/stored.h"
#include "tflite/file.h"

namespace verify_tflite {

// Rounding to the nearest is off by half a step at most. The rest is float
// rounding of w / scale, 127 * 2^-24 of a step, and of scales kept as float16,
// which the quantiser divides by before it rounds them, or after.
inline constexpr double kStepLimit = 0.501;

// How the scales of a quantised constant fit what the checkpoint has there.
struct ScaleFigures {
  // Of rows or blocks; 0: not quantised, or not by rows of the matrix.
  int64_t scales = 0;
  // Of them those that the largest magnitude of the original's row or block
  // gives, to the bit: largest / 127 (int4: 7) in float32, of blocks rounded to
  // 8 bits of mantissa. No other checkpoint has all of them.
  int64_t min_max = 0;
  // Of them those that are the row's root mean square times a constant, as
  // ai-edge-quantizer's MSE has it.
  int64_t mse = 0;
  double bits = 0;       // log2 of the levels in use, mean over the numbers
  double most_bits = 0;  // of the type
  // Of errors where scales are others, and of those that scales from the
  // largest magnitude would leave there.
  double squares = 0;
  double min_max_squares = 0;
  double cut_off_by = 0;  // steps, at most
  // Beyond rounding, and not cut off: codes that a quantiser moved to make up
  // for errors of others.
  int64_t moved = 0;
  double moved_by = 0;   // steps from the original, at most
  int64_t far_rows = 0;  // moved further than that explains
};

// How much larger errors are than by scales from the largest magnitude (L2); 1
// where scales are these.
double CoarserBy(const ScaleFigures& figures);

// A number that is far from the original by what those of its column are. GPTQ
// adds shares of other columns' rounding errors to a column, the same shares in
// each row: in steps all rows have one distribution, and no long tail.
struct FarNumber {
  int64_t row = -1;  // -1: there is none
  int64_t column = 0;
  double steps = 0;
  double usual = 0;  // mean magnitude of the column's others, in steps
};
FarNumber FindFarNumber(const tflite::Constant& constant,
                        const Original& original);

struct Comparison {
  int64_t elements = 0;
  int64_t bad = 0;       // beyond kStepLimit, or not finite
  int64_t bad_rows = 0;  // with such elements
  int64_t first_bad_row = -1;
  int64_t rows = 0;
  int64_t cut_off = 0;  // beyond it, and right: RowPair::CountCutOff
  // |dequantised - original| / step, of those that are not cut off; infinity
  // with NaNs.
  double worst = 0;
  ScaleFigures scales;
  bool ok() const { return elements > 0 && bad == 0; }
};

// Whether the two have the same shape. `transposed`: the constant is [in, out].
bool SameShape(const tflite::Constant& constant, const Original& original,
               bool transposed);

// Reads rows of both; what they have in common. One for each thread.
class RowPair {
 public:
  RowPair(const tflite::Constant& constant, const Original& original,
          bool transposed);

  // Loads row `row` of the constant.
  void Load(int64_t row);
  // Largest error of the loaded row in steps; infinity with NaNs.
  double Worst() const;
  // What is cut off is not bad, and `worst`, if any, becomes that of the rest.
  int64_t CountBad(double* worst = nullptr) const;
  // Numbers at the ends of the quantised type's range whose original is larger.
  // A quantiser may choose scales so that there are a few: all others are
  // rounded the finer. OCTAV (Sakr et al. 2022, arXiv:2206.06501) cuts off so
  // that the squares of all errors are least. Those of scales that leave much
  // more than scales without such numbers do not count.
  int64_t CountCutOff() const;

  // Of the loaded row of a quantised constant, whose Worst() is `worst`.
  void AddScales(int64_t row, double worst, ScaleFigures& figures) const;

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const std::vector<float>& stored() const { return stored_; }
  const std::vector<float>& original() const { return original_; }
  const std::vector<float>& steps() const { return steps_; }
  const StoredReader& reader() const { return reader_; }

 private:
  // Numbers of the row that have one scale; 0: not so many in a row.
  int64_t GroupSize() const;
  void AddRotationSteps();
  bool IsMatrixType() const;
  double MostOfType() const;  // the largest number
  // [begin, end) of the row that have one scale.
  struct Group {
    int64_t begin = 0;
    int64_t end = 0;
    float largest = 0;  // magnitude of the original
  };
  std::vector<Group> GroupsOf(int64_t row) const;
  float MinMaxScale(float largest) const;
  bool IsMinMax(const Group& group) const;
  bool IsMse(const Group& group) const;
  void AddMoved(const Group& group, ScaleFigures& figures) const;
  bool IsCutOff(int64_t i) const;
  void MarkCutOff(const Group& group);
  void FindCutOff(int64_t row);

  const tflite::Constant& constant_;
  const Original& expected_;
  bool transposed_;
  StoredReader reader_;
  int64_t rows_;
  int64_t cols_;
  double limit_;
  std::vector<float> stored_, original_, steps_;
  std::vector<float> numbers_;  // as stored
  std::vector<bool> cut_off_;   // empty: none
};

// All of it. The two must have the same shape. `drop`: the constant's bytes are
// pages of a file, mapped and unchanged, and are let go of after reading, as
// the original's are.
Comparison Compare(const tflite::Constant& constant, const Original& original,
                   bool transposed, bool drop = false);

// Some rows alone, evenly over the whole: cheap, to rule out.
bool MayBe(const tflite::Constant& constant, const Original& original,
           bool transposed);

// |dequantised - original|^2 over some rows, relative to |original|^2: which of
// several originals is the nearest. Infinity with NaNs.
double Distance(const tflite::Constant& constant, const Original& original,
                bool transposed);

// Of `ways` with the constant's shape the one of least Distance, the first
// unless another is much nearer: what a fault leaves may be a little nearer to
// a rarer way by luck. Null where none has the shape.
const Original* Nearest(const tflite::Constant& constant,
                        std::span<const Original> ways, bool transposed);

// At most `count` rows, evenly over `rows`, first and last among them.
std::vector<int64_t> SampleRows(int64_t rows, int64_t count);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_AUDIT_COMPARE_H_
