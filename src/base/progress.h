// Lets long work report its progress. Libraries call it; cli/ draws it.
#ifndef VERIFY_TFLITE_BASE_PROGRESS_H_
#define VERIFY_TFLITE_BASE_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <string_view>

namespace verify_tflite {

// `stage` is a short phrase ("reference: layer"), and `done` of `total` units
// are finished. The thread that does the work calls it, at most a few hundred
// times a second. An empty function is allowed: test it before the call.
using ProgressFn =
    std::function<void(std::string_view stage, int64_t done, int64_t total)>;

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_PROGRESS_H_
