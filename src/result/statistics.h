// Computes what a sample says about its distribution: point values and
// intervals.
#ifndef VERIFY_TFLITE_RESULT_STATISTICS_H_
#define VERIFY_TFLITE_RESULT_STATISTICS_H_

#include <cstdint>
#include <span>

namespace verify_tflite {

// A two-sided interval at 95 %. `high` is infinite where the sample sets no
// upper bound.
struct Interval {
  double low = 0;
  double high = 0;
};

struct Distribution {
  int64_t count = 0;
  double mean = 0;
  double standard_error = 0;  // of the mean; NaN below two blocks
  double median = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
  Interval mean_interval;  // infinite where there is no standard error
  Interval p99_interval;
};

// Positions that follow each other in a text are not independent. The standard
// error is therefore that of the means of blocks of this many, in the order
// given (batch means; Law & Carson 1979). A last part of a block joins the one
// before it.
inline constexpr int64_t kBlock = 8;

// Returns the figures of a sample. Percentiles are interpolated linearly
// between order statistics, as numpy.percentile does. The mean's interval takes
// Student's t for the blocks. That of the 99th percentile is between order
// statistics, by the normal approximation of the binomial; it assumes nothing
// about the distribution (Conover, Practical Nonparametric Statistics, section
// 3.2). For an empty sample all figures are zero and the intervals infinite.
// Any NaN makes every figure NaN.
Distribution Summarize(std::span<const double> values);

// Returns Wilson's score interval for a share of `count` of `total` (Wilson
// 1927, JASA 22); [0, 1] where total is 0.
Interval ShareInterval(int64_t count, int64_t total);

// Returns the 97.5 % quantile of Student's t. It is exact up to 5 degrees of
// freedom, and from there on by the expansion of Abramowitz & Stegun 26.7.5,
// within 0.1 %. `degrees` must be at least 1.
double StudentQuantile(int64_t degrees);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_STATISTICS_H_
