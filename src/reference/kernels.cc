#include "reference/kernels.h"

#include <cstring>

// The loops are written with GCC's vector extensions and compiled for three
// instruction sets; the best that the processor has is chosen at run time.
namespace verify_tflite {
namespace {

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,fma")
namespace avx512 {
constexpr int kLanes = 16;
constexpr int kMaxTokens = 4;
#include "reference/kernels.inc"
}  // namespace avx512
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
constexpr int kLanes = 8;
constexpr int kMaxTokens = 2;
#include "reference/kernels.inc"
}  // namespace avx2
#pragma GCC pop_options
#endif

namespace baseline {
constexpr int kLanes = 4;
constexpr int kMaxTokens = 2;
#include "reference/kernels.inc"
}  // namespace baseline

struct Kernels {
  decltype(&baseline::Widen) widen;
  decltype(&baseline::Dot) dot;
};

Kernels Choose() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    return {avx512::Widen, avx512::Dot};
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {avx2::Widen, avx2::Dot};
  }
#endif
  return {baseline::Widen, baseline::Dot};
}

const Kernels kKernels = Choose();

}  // namespace

void Widen(DType dtype, const std::byte* weights, int64_t count, float* out) {
  kKernels.widen(dtype, weights, count, out);
}

void Dot(const DotArgs& args) { kKernels.dot(args); }

}  // namespace verify_tflite
