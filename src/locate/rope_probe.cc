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
  double before_energy = 0;    // sum |before|^2
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
        result.before_energy += std::norm(before);
        result.after_energy += std::norm(after);
      }
    }
  }
  return result;
}

// Sum of Re(a conj(b) e^{-ix}) over one pair.
double Explained(const Products& products, std::span<const int64_t> positions,
                 size_t pair, double frequency, int64_t shift) {
  double explained = 0;
  for (size_t row = 0; row < positions.size(); ++row) {
    const Complex& cross = products.cross[row * products.pairs + pair];
    const double angle =
        static_cast<double>(positions[row] + shift) * frequency;
    explained +=
        cross.real() * std::cos(angle) + cross.imag() * std::sin(angle);
  }
  return explained;
}

double Explained(const Products& products, std::span<const int64_t> positions,
                 std::span<const double> frequencies, int64_t shift) {
  double explained = 0;
  for (size_t i = 0; i < products.pairs; ++i) {
    explained += Explained(products, positions, i, frequencies[i], shift);
  }
  return explained;
}

// |a - g b e^{ix}|^2 = |a|^2 + g^2 |b|^2 - 2 g Re(a conj(b) e^{-ix}).
double Residual(const Products& products, std::span<const int64_t> positions,
                std::span<const double> frequencies, int64_t shift,
                double amplitude = 1) {
  if (products.after_energy == 0) return 0;
  const double explained = Explained(products, positions, frequencies, shift);
  return std::max(0.0, products.after_energy +
                           amplitude * amplitude * products.before_energy -
                           2 * amplitude * explained) /
         products.after_energy;
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

RopeFit FitRopeParameter(const RopeSample& sample, double low, double high,
                         const std::function<RopeModel(double)>& model) {
  const Products products = Multiply(sample, RopePairs::kHalves);
  return Minimize(low, high, 1000, [&](double parameter) {
    const RopeModel made = model(parameter);
    return Residual(products, sample.position, made.frequencies, 0,
                    made.amplitude);
  });
}

double RopeResidual(const RopeSample& sample, const RopeModel& model) {
  return Residual(Multiply(sample, RopePairs::kHalves), sample.position,
                  model.frequencies, 0, model.amplitude);
}

RopeFit FitRopeAmplitude(const RopeSample& sample,
                         std::span<const double> frequencies) {
  const Products products = Multiply(sample, RopePairs::kHalves);
  if (products.before_energy == 0) return {1, 0};
  const double amplitude =
      Explained(products, sample.position, frequencies, 0) /
      products.before_energy;
  return {amplitude,
          Residual(products, sample.position, frequencies, 0, amplitude)};
}

FreeRopeFit FitEachRopeFrequency(const RopeSample& sample,
                                 std::span<const double> expected) {
  const Products products = Multiply(sample, RopePairs::kHalves);
  FreeRopeFit fit;
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto left = [&](double frequency) {
      return -Explained(products, sample.position, i, frequency, 0);
    };
    const RopeFit best =
        Minimize(expected[i] / 64, expected[i] * 64, 2000, left);
    fit.frequencies.push_back(left(0) < best.residual ? 0 : best.value);
  }
  fit.residual = Residual(products, sample.position, fit.frequencies, 0);
  return fit;
}

}  // namespace verify_tflite
