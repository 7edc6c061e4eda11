#include "locate/rope_probe.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>

namespace verify_tflite {
namespace {

using Complex = std::complex<double>;

// What the residual depends on: for each row and pair, summed over heads.
struct Products {
  std::vector<Complex> cross;  // after * conj(before), [rows, pairs]
  double energy = 0;           // sum |after|^2 + |before|^2
  double after_energy = 0;
  size_t pairs = 0;
};

// Where the reference has what stands in place i of the candidate's head.
int64_t Place(int64_t i, int64_t half, RopePairs pairs) {
  if (pairs == RopePairs::kHalves) return i;
  return (i % 2) * half + i / 2;
}

Products Multiply(const RopeSample& s, RopePairs pairs) {
  const int64_t half = s.rotary_dim / 2;
  const auto rows = static_cast<int64_t>(s.position.size());
  Products result;
  result.pairs = static_cast<size_t>(half);
  result.cross.resize(static_cast<size_t>(rows * half));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < s.heads; ++head) {
      const int64_t at = (row * s.heads + head) * s.head_dim;
      for (int64_t i = 0; i < half; ++i) {
        const Complex before(s.before[at + Place(i, half, pairs)],
                             s.before[at + Place(i + half, half, pairs)]);
        const Complex after(s.after[at + i], s.after[at + i + half]);
        result.cross[row * half + i] += after * std::conj(before);
        result.energy += std::norm(before) + std::norm(after);
        result.after_energy += std::norm(after);
      }
    }
  }
  return result;
}

// |a - b e^{ix}|^2 = |a|^2 + |b|^2 - 2 Re(a conj(b) e^{-ix}).
double Residual(const Products& products, std::span<const int64_t> positions,
                std::span<const double> frequencies, int64_t shift) {
  double explained = 0;
  for (size_t row = 0; row < positions.size(); ++row) {
    const auto position = static_cast<double>(positions[row] + shift);
    for (size_t i = 0; i < products.pairs; ++i) {
      const Complex& cross = products.cross[row * products.pairs + i];
      const double angle = position * frequencies[i];
      explained +=
          cross.real() * std::cos(angle) + cross.imag() * std::sin(angle);
    }
  }
  if (products.after_energy == 0) return 0;
  return std::max(0.0, products.energy - 2 * explained) / products.after_energy;
}

// The x that makes `residual` least: a grid of `steps` in log x, then golden
// sections around its best.
template <typename Fn>
RopeFit Minimize(double low, double high, int steps, const Fn& residual) {
  const double log_low = std::log(low);
  const double step = (std::log(high) - log_low) / steps;
  RopeFit best = {low, residual(low)};
  for (int i = 1; i <= steps; ++i) {
    const double x = std::exp(log_low + i * step);
    const double r = residual(x);
    if (r < best.residual) best = {x, r};
  }
  constexpr double kGolden = 0.6180339887498949;
  double a = std::log(best.value) - step;
  double b = std::log(best.value) + step;
  for (int i = 0; i < 60; ++i) {
    const double left = b - kGolden * (b - a);
    const double right = a + kGolden * (b - a);
    if (residual(std::exp(left)) < residual(std::exp(right))) {
      b = right;
    } else {
      a = left;
    }
  }
  const double x = std::exp((a + b) / 2);
  const double r = residual(x);
  return r < best.residual ? RopeFit{x, r} : best;
}

}  // namespace

std::vector<double> RopeFrequencies(double base, int64_t rotary_dim) {
  std::vector<double> result;
  for (int64_t i = 0; i < rotary_dim; i += 2) {
    result.push_back(std::pow(
        base, -static_cast<double>(i) / static_cast<double>(rotary_dim)));
  }
  return result;
}

double RopeResidual(const RopeSample& sample,
                    std::span<const double> frequencies, int64_t shift,
                    RopePairs pairs) {
  return Residual(Multiply(sample, pairs), sample.position, frequencies, shift);
}

RopeFit FitRopeBase(const RopeSample& sample, double factor) {
  const Products products = Multiply(sample, RopePairs::kHalves);
  return Minimize(1e2, 1e9, 4000, [&](double base) {
    std::vector<double> frequencies = RopeFrequencies(base, sample.rotary_dim);
    for (double& f : frequencies) f /= factor;
    return Residual(products, sample.position, frequencies, 0);
  });
}

RopeFit FitRopeFactor(const RopeSample& sample,
                      std::span<const double> frequencies) {
  const Products products = Multiply(sample, RopePairs::kHalves);
  std::vector<double> scaled(frequencies.size());
  return Minimize(1.0 / 64, 64, 4000, [&](double factor) {
    for (size_t i = 0; i < scaled.size(); ++i) {
      scaled[i] = frequencies[i] / factor;
    }
    return Residual(products, sample.position, scaled, 0);
  });
}

}  // namespace verify_tflite
