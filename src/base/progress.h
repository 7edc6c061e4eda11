// How long work tells how far it is. Libraries call it; cli/ draws it.
#ifndef VERIFY_TFLITE_BASE_PROGRESS_H_
#define VERIFY_TFLITE_BASE_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <string_view>

namespace verify_tflite {

// `stage` is a short phrase ("reference: layer"), `done` of `total` units are
// finished. Called from the thread that does the work, at most a few hundred
// times a second. An empty function is allowed: test it before the call.
using ProgressFn =
    std::function<void(std::string_view stage, int64_t done, int64_t total)>;

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_PROGRESS_H_
