// How a model is run on the CPU.
#ifndef VERIFY_TFLITE_CANDIDATE_CPU_OPTIONS_H_
#define VERIFY_TFLITE_CANDIDATE_CPU_OPTIONS_H_

namespace verify_tflite {

// Who computes: XNNPACK, as in production, with TFLite's own kernels for what
// it does not take; or those kernels alone, an implementation of their own that
// takes 4 to 40 times as long.
enum class Kernels { kXnnpack, kBuiltin };

struct CpuOptions {
  int num_threads = 1;
  Kernels kernels = Kernels::kXnnpack;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_CPU_OPTIONS_H_
