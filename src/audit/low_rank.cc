#include "audit/low_rank.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace verify_tflite {
namespace {

constexpr int64_t kMostVectors = 80;
constexpr double kUnexplained = 0.05;
// Singular values below this share of the largest one do not count.
constexpr double kLeastSingular = 0.02;
constexpr int kMostSweeps = 30;

using Vectors = std::vector<std::vector<double>>;

// Gram-Schmidt, twice for accuracy; drops what vanishes.
void Orthonormalise(Vectors& vectors) {
  Vectors basis;
  for (auto& v : vectors) {
    double before = 0;
    for (const double x : v) before += x * x;
    for (int pass = 0; pass < 2; ++pass) {
      for (const auto& b : basis) {
        double dot = 0;
        for (size_t i = 0; i < v.size(); ++i) dot += v[i] * b[i];
        for (size_t i = 0; i < v.size(); ++i) v[i] -= dot * b[i];
      }
    }
    double norm = 0;
    for (const double x : v) norm += x * x;
    if (!(norm > 1e-20 * before)) continue;
    norm = std::sqrt(norm);
    for (double& x : v) x /= norm;
    basis.push_back(std::move(v));
  }
  vectors = std::move(basis);
}

// Eigenvalues of a symmetric matrix, by Jacobi's rotations.
std::vector<double> Eigenvalues(Vectors a) {
  const size_t n = a.size();
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    double off = 0, all = 0;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) {
        (i == j ? all : off) += a[i][j] * a[i][j];
      }
    }
    if (off <= 1e-18 * all) break;
    for (size_t p = 0; p < n; ++p) {
      for (size_t q = p + 1; q < n; ++q) {
        if (a[p][q] == 0) continue;
        const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const double t = (theta >= 0 ? 1 : -1) /
                         (std::fabs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (size_t i = 0; i < n; ++i) {
          const double x = a[i][p], y = a[i][q];
          a[i][p] = c * x - s * y;
          a[i][q] = s * x + c * y;
        }
        for (size_t i = 0; i < n; ++i) {
          const double x = a[p][i], y = a[q][i];
          a[p][i] = c * x - s * y;
          a[q][i] = s * x + c * y;
        }
      }
    }
  }
  std::vector<double> values;
  for (size_t i = 0; i < n; ++i) values.push_back(a[i][i]);
  std::sort(values.rbegin(), values.rend());
  return values;
}

}  // namespace

LowRank MeasureRank(const std::vector<float>& values, int64_t rows,
                    int64_t cols, double noise) {
  const int64_t k = std::min(std::min(rows, cols) / 3, kMostVectors);
  double energy = 0;
  for (const float x : values) energy += double{x} * x;
  if (k < 2 || !(energy > 4 * noise) || !std::isfinite(energy)) return {};

  // D times k random vectors; the fixed seed makes results repeatable.
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> random(cols * k);
  for (float& x : random) x = normal(generator);
  Vectors range(k, std::vector<double>(rows));
  std::vector<double> sums(k);
  for (int64_t r = 0; r < rows; ++r) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t c = 0; c < cols; ++c) {
      const double value = values[r * cols + c];
      for (int64_t i = 0; i < k; ++i) sums[i] += value * random[c * k + i];
    }
    for (int64_t i = 0; i < k; ++i) range[i][r] = sums[i];
  }
  Orthonormalise(range);

  const size_t found = range.size();
  Vectors projected(found, std::vector<double>(cols));
  for (size_t i = 0; i < found; ++i) {
    for (int64_t r = 0; r < rows; ++r) {
      const double weight = range[i][r];
      for (int64_t c = 0; c < cols; ++c) {
        projected[i][c] += weight * values[r * cols + c];
      }
    }
  }
  Vectors gram(found, std::vector<double>(found));
  double explained = 0;
  for (size_t i = 0; i < found; ++i) {
    for (size_t j = 0; j < found; ++j) {
      double sum = 0;
      for (int64_t c = 0; c < cols; ++c)
        sum += projected[i][c] * projected[j][c];
      gram[i][j] = sum;
    }
    explained += gram[i][i];
  }
  if (energy - explained > 1.1 * noise + kUnexplained * (energy - noise)) {
    return {};
  }
  const std::vector<double> squares = Eigenvalues(std::move(gram));
  // What noise alone puts on each, twice over.
  const double floor =
      std::max(squares.front() * kLeastSingular * kLeastSingular,
               4 * noise / static_cast<double>(std::min(rows, cols)));
  LowRank result{true, 0};
  for (const double square : squares) result.rank += square > floor;
  return result;
}

}  // namespace verify_tflite
