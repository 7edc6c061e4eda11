#include "reference/kernels.h"

#include <cstring>
#include <limits>
#include <vector>

#include "base/number.h"

// The loops are written with GCC's vector extensions and compiled for three
// instruction sets; what the processor has is found at run time.
namespace verify_tflite {
namespace {

constexpr int kOutputs = 4;

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,fma")
namespace avx512 {
constexpr int kLanes = 16;
constexpr int kMaxTokens = 6;
#include "reference/kernels.inc"
}  // namespace avx512
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
constexpr int kLanes = 8;
constexpr int kMaxTokens = 3;
#include "reference/kernels.inc"
}  // namespace avx2
#pragma GCC pop_options
#endif

namespace baseline {
constexpr int kLanes = 4;
constexpr int kMaxTokens = 2;
#include "reference/kernels.inc"
}  // namespace baseline

std::vector<Kernels> FindKernels() {
  std::vector<Kernels> found;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    found.push_back({"avx512", avx512::Widen, avx512::Dot,
                     std::numeric_limits<int64_t>::max()});
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    found.push_back({"avx2", avx2::Widen, avx2::Dot, 8});
  }
#endif
  found.push_back({"baseline", baseline::Widen, baseline::Dot, 4});
  return found;
}

}  // namespace

std::span<const Kernels> AvailableKernels() {
  static const std::vector<Kernels> kernels = FindKernels();
  return kernels;
}

}  // namespace verify_tflite
