// Measures the angles by which a candidate rotates its keys, from its KV cache.
//
// RoPE (Su et al. 2021, arXiv:2104.09864) turns the pair (i, i + d/2) of a head
// by position * frequency_i. Where the candidate's values of a layer are right,
// so is what its keys were computed from, and the reference's keys before RoPE
// tell, pair by pair, what was done to them: no model has to be run again.
#ifndef VERIFY_TFLITE_LOCATE_ROPE_PROBE_H_
#define VERIFY_TFLITE_LOCATE_ROPE_PROBE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace verify_tflite {

// The keys of one layer, both [positions, heads, head_dim], row-major.
struct RopeSample {
  std::span<const float> before;  // the reference's before RoPE
  std::span<const float> after;   // as the candidate's KV cache holds them
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;  // the first elements of a head that rotate
  std::span<const int64_t> position;  // of each row
};

// The order of the pairs in a head.
enum class RopePairs {
  kHalves,  // (i, i + d/2): Hugging Face, litert-torch
  // (2i, 2i + 1), as in Meta's checkpoints, but rotated as halves: what a
  // conversion does that takes such rows as they are.
  kInterleaved,
};

// Returns the share of the keys' energy that rotating `before` by position *
// frequency does not explain: sum |after - rotated|^2 / sum |after|^2 over what
// rotates. It is 0 for the right frequencies and about 2 for unrelated ones.
// `frequencies` is [rotary_dim / 2]. `shift` is added to every position.
double RopeResidual(const RopeSample& sample,
                    std::span<const double> frequencies, int64_t shift = 0,
                    RopePairs pairs = RopePairs::kHalves);

// Returns [rotary_dim / 2]: base^(-2 i / rotary_dim).
std::vector<double> RopeFrequencies(double base, int64_t rotary_dim);

struct RopeFit {
  double value = 0;     // the base, or the factor
  double residual = 0;  // at it
};

// Returns the base, from 100 to 1e9, whose frequencies, divided by `factor`
// (linear scaling), explain the keys best.
RopeFit FitRopeBase(const RopeSample& sample, double factor = 1);

// Returns the factor, from 1/64 to 64, that explains the keys best when all
// `frequencies` are divided by it.
RopeFit FitRopeFactor(const RopeSample& sample,
                      std::span<const double> frequencies);

// What FitRopeParameter asks `model` for: frequencies and the amplitude of the
// rotated keys. It returns the parameter, from `low` to `high`, whose model
// explains the keys best.
struct RopeModel {
  std::vector<double> frequencies;  // [rotary_dim / 2]
  double amplitude = 1;
};
RopeFit FitRopeParameter(const RopeSample& sample, double low, double high,
                         const std::function<RopeModel(double)>& model);
double RopeResidual(const RopeSample& sample, const RopeModel& model);

// Returns the one factor on all keys that explains them best when they are
// rotated by `frequencies`. Another attention factor (YaRN, longrope) has this
// effect.
RopeFit FitRopeAmplitude(const RopeSample& sample,
                         std::span<const double> frequencies);

// FitEachRopeFrequency fits each frequency for itself, near those of `expected`
// (from 1/64 to 64 times; 0, too). It returns them with the residual of all.
struct FreeRopeFit {
  std::vector<double> frequencies;
  double residual = 0;
};
FreeRopeFit FitEachRopeFrequency(const RopeSample& sample,
                                 std::span<const double> expected);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_LOCATE_ROPE_PROBE_H_
