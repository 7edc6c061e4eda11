#include "locate/setting_fit.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace verify_tflite {
namespace {

constexpr int kMostSections = 40;
constexpr int kMostHalvings = 20;

// Halves, in log x, between a value with an error and one without: the last one
// without.
double EdgeBetween(double with, double without,
                   const std::function<double(double)>& error) {
  for (int i = 0; i < kMostHalvings; ++i) {
    const double middle = std::sqrt(with * without);
    (error(middle) == 0 ? without : with) = middle;
  }
  return without;
}

// Golden sections of (a, b), in log x, up to a value without an error. `a` and
// `b` keep one.
std::optional<double> Narrow(double& a, double& b,
                             const std::function<double(double)>& error) {
  constexpr double kGolden = 0.6180339887498949;
  const auto section = [](double from, double to) {
    return from * std::pow(to / from, kGolden);
  };
  double left = section(b, a);
  double right = section(a, b);
  double left_error = error(left);
  double right_error = error(right);
  for (int i = 0; i < kMostSections; ++i) {
    if (left_error == 0) return left;
    if (right_error == 0) return right;
    if (left_error < right_error) {
      b = std::exchange(right, left);
      right_error = left_error;
      left = section(b, a);
      left_error = error(left);
    } else {
      a = std::exchange(left, right);
      left_error = right_error;
      right = section(a, b);
      right_error = error(right);
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<double> FitSetting(double low, double high, int steps,
                                 const std::function<double(double)>& error) {
  const double step = (std::log(high) - std::log(low)) / steps;
  const auto at = [&](int i) { return low * std::exp(i * step); };
  std::vector<double> errors;
  for (int i = 0; i <= steps; ++i) errors.push_back(error(at(i)));
  const auto best = static_cast<int>(
      std::min_element(errors.begin(), errors.end()) - errors.begin());
  if (best == 0 || best == steps || errors.front() == 0 || errors.back() == 0) {
    return std::nullopt;
  }
  // Both have an error.
  double a = at(best - 1);
  double b = at(best + 1);
  double x = at(best);
  if (errors[static_cast<size_t>(best)] > 0) {
    const auto found = Narrow(a, b, error);
    if (!found) return std::nullopt;
    x = *found;
  } else {
    int above = best + 1;
    while (errors[static_cast<size_t>(above)] == 0) ++above;
    b = at(above);
  }
  return RoundestBetween(EdgeBetween(a, x, error), EdgeBetween(b, x, error));
}

double RoundestBetween(double low, double high) {
  const double middle = (low + high) / 2;
  for (int digits = 1; digits <= 15; ++digits) {
    const double unit =
        std::pow(10.0, std::floor(std::log10(middle)) - digits + 1);
    const double value = std::round(middle / unit) * unit;
    if (value >= low && value <= high) return value;
  }
  return middle;
}

}  // namespace verify_tflite
