// Is a matrix the product of two narrow ones?
#ifndef VERIFY_TFLITE_AUDIT_LOW_RANK_H_
#define VERIFY_TFLITE_AUDIT_LOW_RANK_H_

#include <cstdint>
#include <vector>

namespace verify_tflite {

struct LowRank {
  bool is_low = false;
  int64_t rank = 0;  // 0 unless `is_low`
};

// `values` is [rows, cols]; `noise` the energy (sum of squares) of rounding in
// it. A randomised range finder (Halko, Martinsson, Tropp, SIAM Review 53(2),
// 2011, algorithm 4.1) with a third of the smaller dimension, at most 80: low
// is what lies in its range but for the noise and a twentieth.
LowRank MeasureRank(const std::vector<float>& values, int64_t rows,
                    int64_t cols, double noise);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_AUDIT_LOW_RANK_H_
