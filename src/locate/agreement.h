// Measures how far two tensors agree. Faults are located by these figures.
//
// Sums are in float64.
#ifndef VERIFY_TFLITE_LOCATE_AGREEMENT_H_
#define VERIFY_TFLITE_LOCATE_AGREEMENT_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace verify_tflite {

// Figures of a candidate's numbers c against the reference's r. NaN means that
// nothing was compared.
struct Agreement {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

  // Normalised mean squared error, sum (c - r)^2 / sum r^2: 0 for equal ones,
  // about 2 for unrelated ones of the same size. Infinite when a candidate's
  // number is NaN or infinite, or when r is all zeros and c is not.
  double nmse = kNone;
  // sum c r / (|c| |r|); 0 when one of the two is all zeros (1 when both are)
  // or c is not finite.
  double cosine = kNone;
  // |c| / |r|; infinite when r is all zeros and c is not or c is not finite; 1
  // when both are zeros.
  double norm_ratio = kNone;
};

// Returns no figures (NaN) for empty spans. Throws Error when the sizes differ
// or a number of the reference is NaN or infinite.
Agreement MeasureAgreement(std::span<const float> reference,
                           std::span<const float> candidate);

// Figures of [rows, heads, head_dim].
struct HeadsAgreement {
  Agreement all = {};
  std::vector<Agreement> heads = {};
  size_t worst_head = 0;  // by nmse
};

// Does the same by head. `heads` and `head_dim` must be positive.
HeadsAgreement MeasureHeads(std::span<const float> reference,
                            std::span<const float> candidate, int64_t heads,
                            int64_t head_dim);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_LOCATE_AGREEMENT_H_
