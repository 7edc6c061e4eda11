#ifndef VERIFY_TFLITE_VERIFY_STOPWATCH_H_
#define VERIFY_TFLITE_VERIFY_STOPWATCH_H_

#include <chrono>

namespace verify_tflite {

// Adds its own lifetime to the `seconds` it is given.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() {
    seconds_ += std::chrono::duration<double>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_STOPWATCH_H_
