#include "result/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace verify_tflite {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kZ = 1.959963984540054;  // 97.5 % of the normal distribution

double Mean(std::span<const double> values) {
  double sum = 0;
  for (const double x : values) sum += x;
  return sum / static_cast<double>(values.size());
}

std::vector<double> BlockMeans(std::span<const double> values) {
  const auto blocks = std::max<size_t>(1, values.size() / kBlock);
  std::vector<double> means;
  for (size_t i = 0; i < blocks; ++i) {
    const auto part = i + 1 < blocks ? values.subspan(i * kBlock, kBlock)
                                     : values.subspan(i * kBlock);
    means.push_back(Mean(part));
  }
  return means;
}

// Of the mean of `means`.
double StandardError(std::span<const double> means) {
  if (means.size() < 2) return kNaN;
  const double centre = Mean(means);
  double squares = 0;
  for (const double x : means) squares += (x - centre) * (x - centre);
  const auto count = static_cast<double>(means.size());
  return std::sqrt(squares / (count - 1) / count);
}

double Percentile(std::span<const double> sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] +
         (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

Interval PercentileInterval(std::span<const double> sorted, double share) {
  const auto count = static_cast<double>(sorted.size());
  const double half = kZ * std::sqrt(count * share * (1 - share));
  // Ranks from 1 on.
  const double low = std::ceil(count * share - half);
  const double high = std::ceil(count * share + half);
  Interval interval = {0, kInfinity};
  if (low >= 1) interval.low = sorted[static_cast<size_t>(low) - 1];
  if (high <= count) interval.high = sorted[static_cast<size_t>(high) - 1];
  return interval;
}

}  // namespace

double StudentQuantile(int64_t degrees) {
  constexpr std::array<double, 5> kExact = {
      12.706204736, 4.302652730, 3.182446305, 2.776445105, 2.570581836};
  if (degrees <= static_cast<int64_t>(kExact.size())) {
    return kExact[static_cast<size_t>(std::max<int64_t>(degrees, 1)) - 1];
  }
  const auto n = static_cast<double>(degrees);
  const double z2 = kZ * kZ;
  const double g1 = kZ * (z2 + 1) / 4;
  const double g2 = kZ * (5 * z2 * z2 + 16 * z2 + 3) / 96;
  const double g3 = kZ * (3 * z2 * z2 * z2 + 19 * z2 * z2 + 17 * z2 - 15) / 384;
  return kZ + g1 / n + g2 / (n * n) + g3 / (n * n * n);
}

Distribution Summarize(std::span<const double> values) {
  Distribution d;
  d.count = static_cast<int64_t>(values.size());
  d.mean_interval = d.p99_interval = {0, kInfinity};
  if (values.empty()) return d;
  if (std::any_of(values.begin(), values.end(),
                  [](double x) { return std::isnan(x); })) {
    d.mean = d.standard_error = d.median = d.p90 = d.p99 = d.max = kNaN;
    d.mean_interval = d.p99_interval = {kNaN, kNaN};
    return d;
  }
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const std::vector<double> means = BlockMeans(values);
  d.mean = Mean(values);
  d.standard_error = StandardError(means);
  d.median = Percentile(sorted, 0.5);
  d.p90 = Percentile(sorted, 0.9);
  d.p99 = Percentile(sorted, 0.99);
  d.max = sorted.back();
  d.p99_interval = PercentileInterval(sorted, 0.99);
  if (means.size() >= 2) {
    const double half = d.standard_error *
                        StudentQuantile(static_cast<int64_t>(means.size()) - 1);
    d.mean_interval = {d.mean - half, d.mean + half};
  }
  return d;
}

Interval ShareInterval(int64_t count, int64_t total) {
  if (total == 0) return {0, 1};
  const auto n = static_cast<double>(total);
  const double p = static_cast<double>(count) / n;
  const double z2 = kZ * kZ;
  const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half =
      kZ / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  // Rounding must not leave a hair beyond the ends.
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

}  // namespace verify_tflite
