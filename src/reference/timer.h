// SPDX-License-Identifier: Apache-2.0
#ifndef VERIFY_TFLITE_REFERENCE_TIMER_H_
#define VERIFY_TFLITE_REFERENCE_TIMER_H_

#include <chrono>

namespace verify_tflite {

// Adds the seconds it lives to `sum`, unless that is null.
class Timer {
 public:
  explicit Timer(double* sum) : sum_(sum) {}
  ~Timer() {
    if (sum_ == nullptr) return;
    const std::chrono::duration<double> time = Clock::now() - start_;
    *sum_ += time.count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  double* sum_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_TIMER_H_
