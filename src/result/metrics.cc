#include "result/metrics.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <numbers>

// The loops are written with GCC's vector extensions and compiled for what
// processors have; the loader takes the best of them that this one knows. It
// runs before the sanitizers do.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define VERIFY_TFLITE_CLONES \
  __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VERIFY_TFLITE_CLONES
#endif

namespace verify_tflite {
namespace {

constexpr size_t kLanes = 8;
using Floats [[gnu::vector_size(kLanes * sizeof(float))]] = float;
using Doubles [[gnu::vector_size(kLanes * sizeof(double))]] = double;
using Integers [[gnu::vector_size(kLanes * sizeof(int64_t))]] = int64_t;

// Vectors are passed by reference: how they are passed by value depends on the
// instruction set.
[[gnu::always_inline]] inline double Total(const Doubles& x) {
  double sum = 0;
  for (size_t i = 0; i < kLanes; ++i) sum += x[i];
  return sum;
}

// The coefficients of exp's Taylor series, up to the 13th power: what follows
// is below 5e-18 where the argument is at most ln 2 / 2 away from 0.
constexpr auto kTaylor = [] {
  std::array<double, 14> inverse_factorials{1};
  double factorial = 1;
  for (size_t n = 1; n < inverse_factorials.size(); ++n) {
    factorial *= static_cast<double>(n);
    inverse_factorials[n] = 1 / factorial;
  }
  return inverse_factorials;
}();

// Sets `y` to exp(x), to two units in the last place, where x is between -708
// and 0, and to at most 1e-307 where x is less. exp(x) = 2^k exp(r), where k is
// the integer nearest to x / ln 2 (Cody and Waite, "Software Manual for the
// Elementary Functions", 1980).
[[gnu::always_inline]] inline void ExpOfNegative(const Doubles& x, Doubles& y) {
  constexpr double kLeast = -708;  // its exp is still a normal number
  // A sum with it has its integer part in its lowest bits.
  constexpr double kShift = 0x1.8p52;
  // ln 2 in two parts: the first has so few bits that k times it is exact.
  constexpr double kLn2High = 0x1.62e42feep-1;
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  const Doubles least = Doubles{} + kLeast;
  const Doubles bounded = x > least ? x : least;
  const Doubles shifted = bounded * std::numbers::log2e + kShift;
  const Doubles k = shifted - kShift;
  const Doubles r = (bounded - k * kLn2High) - k * kLn2Low;
  Doubles sum = Doubles{} + kTaylor.back();
  for (size_t n = kTaylor.size() - 1; n-- > 0;) sum = sum * r + kTaylor[n];
  Integers exponent;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  Integers bits;
  std::memcpy(&bits, &sum, sizeof bits);
  bits += exponent << 52;
  std::memcpy(&y, &bits, sizeof y);
}

// What a pass over one row tells.
struct Extremes {
  float largest;  // of those that are no NaN; -infinity where all are
  bool finite;    // all are
};

VERIFY_TFLITE_CLONES
Extremes FindExtremes(const float* x, size_t size) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  Floats largest = Floats{} + kLowest;
  Floats odd{};  // 0 times NaN or an infinity is NaN
  Extremes found{kLowest, true};
  size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    Floats part;
    std::memcpy(&part, x + i, sizeof part);
    largest = part > largest ? part : largest;
    odd += part * 0.0F;
  }
  for (; i < size; ++i) {
    largest[0] = x[i] > largest[0] ? x[i] : largest[0];
    odd[0] += x[i] * 0.0F;
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    found.largest = std::max(found.largest, largest[lane]);
    found.finite = found.finite && odd[lane] == 0;
  }
  return found;
}

// The index of the first that is the largest; 0 where all are NaN.
int32_t FindFirst(std::span<const float> x, float largest) {
  const auto at = std::find(x.begin(), x.end(), largest);
  return at == x.end() ? 0 : static_cast<int32_t>(at - x.begin());
}

// Entries that argmax would take before `token`.
int64_t Rank(std::span<const float> logits, int32_t token) {
  int64_t rank = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    rank += logits[i] > logits[token] ||
            (logits[i] == logits[token] && i < static_cast<size_t>(token));
  }
  return rank;
}

// Sums over two rows, each less its largest value: nothing overflows, and a
// constant offset, which softmax is blind to, does not drown what differs.
struct Sums {
  double reference_z = 0;  // of exp(reference)
  double candidate_z = 0;
  double weighted = 0;      // of exp(reference) * difference
  double difference = 0;    // of candidate - reference
  double difference_2 = 0;  // of its squares
  double reference = 0;
  double reference_2 = 0;
  // Of the rows as they are: a constant offset counts.
  double absolute = 0;
  double largest = 0;
};

// Adds up `size` values of each row.
VERIFY_TFLITE_CLONES
void AddUp(const float* reference, const float* candidate, size_t size,
           double reference_top, double candidate_top, Sums& sums) {
  Doubles reference_z{};
  Doubles candidate_z{};
  Doubles weighted{};
  Doubles difference{};
  Doubles difference_2{};
  Doubles of_reference{};
  Doubles of_reference_2{};
  Doubles absolute{};
  Doubles largest{};
  const double offset = candidate_top - reference_top;
  for (size_t i = 0; i < size; i += kLanes) {
    Floats parts[2];
    const size_t count = std::min(kLanes, size - i);
    Doubles counted = Doubles{} + 1.0;
    if (count < kLanes) {
      // What is beyond the end adds nothing to any sum.
      parts[0] = Floats{} + static_cast<float>(reference_top);
      parts[1] = Floats{} + static_cast<float>(candidate_top);
      for (size_t lane = count; lane < kLanes; ++lane) counted[lane] = 0;
    }
    std::memcpy(&parts[0], reference + i, count * sizeof(float));
    std::memcpy(&parts[1], candidate + i, count * sizeof(float));
    const Doubles r =
        __builtin_convertvector(parts[0], Doubles) - reference_top;
    const Doubles c =
        __builtin_convertvector(parts[1], Doubles) - candidate_top;
    Doubles p;
    Doubles q;
    ExpOfNegative(r, p);
    ExpOfNegative(c, q);
    const Doubles d = c - r;
    const Doubles whole = (d + offset) * counted;
    const Doubles size_of_whole = whole < 0 ? -whole : whole;
    reference_z += p * counted;
    candidate_z += q * counted;
    weighted += p * d;
    difference += d;
    difference_2 += d * d;
    of_reference += r;
    of_reference_2 += r * r;
    absolute += size_of_whole;
    largest = size_of_whole > largest ? size_of_whole : largest;
  }
  sums = {Total(reference_z),    Total(candidate_z),  Total(weighted),
          Total(difference),     Total(difference_2), Total(of_reference),
          Total(of_reference_2), Total(absolute),     0};
  for (size_t lane = 0; lane < kLanes; ++lane) {
    sums.largest = std::max(sums.largest, largest[lane]);
  }
}

// Squares of the differences from the mean, given sums of values and squares.
double Centred(double sum_of_squares, double sum, double size) {
  return std::max(0.0, sum_of_squares - sum * sum / size);
}

}  // namespace

int32_t Argmax(std::span<const float> logits) {
  return FindFirst(logits, FindExtremes(logits.data(), logits.size()).largest);
}

LogitDifference Compare(std::span<const float> reference,
                        std::span<const float> candidate,
                        std::optional<int32_t> text_token) {
  assert(!reference.empty() && reference.size() == candidate.size());
  LogitDifference result;
  const Extremes of_reference =
      FindExtremes(reference.data(), reference.size());
  const Extremes of_candidate =
      FindExtremes(candidate.data(), candidate.size());
  result.reference_token = FindFirst(reference, of_reference.largest);
  result.candidate_token = FindFirst(candidate, of_candidate.largest);
  result.text_token = text_token.value_or(result.reference_token);
  result.finite = of_reference.finite && of_candidate.finite;
  if (!result.finite) return result;

  const double reference_top = of_reference.largest;
  const double candidate_top = of_candidate.largest;
  Sums sums;
  AddUp(reference.data(), candidate.data(), reference.size(), reference_top,
        candidate_top, sums);
  result.margin = reference_top - reference[result.candidate_token];
  if (result.candidate_token != result.reference_token) {
    result.rank = Rank(candidate, result.reference_token);
  }
  result.reference_logprob =
      reference[result.text_token] - reference_top - std::log(sums.reference_z);
  result.candidate_logprob =
      candidate[result.text_token] - candidate_top - std::log(sums.candidate_z);
  result.constant = std::all_of(candidate.begin(), candidate.end(),
                                [&](float x) { return x == candidate[0]; });
  // sum of p (log p - log q), where log p = reference - log_z, and p adds up
  // to 1. Rounding can leave equal distributions a hair below zero.
  result.kld = std::max(0.0, std::log(sums.candidate_z / sums.reference_z) -
                                 sums.weighted / sums.reference_z);
  const auto size = static_cast<double>(reference.size());
  result.max_abs = sums.largest;
  result.mean_abs = sums.absolute / size;
  const double noise = Centred(sums.difference_2, sums.difference, size);
  const double signal = Centred(sums.reference_2, sums.reference, size);
  result.rms = std::sqrt(noise / size);
  if (noise > 0) result.nmse = noise / signal;
  return result;
}

}  // namespace verify_tflite
