// Draws the progress of long work on a terminal.
#ifndef VERIFY_TFLITE_CLI_PROGRESS_BAR_H_
#define VERIFY_TFLITE_CLI_PROGRESS_BAR_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace verify_tflite {

// Returns one line of at most 79 columns: stage, bar, share. `total` 0 shows no
// bar.
std::string ProgressLine(std::string_view stage, int64_t done, int64_t total);

// Draws on standard error, at most ten times a second, over its own last line.
class ProgressBar {
 public:
  // Draws nothing at all unless `enabled`.
  explicit ProgressBar(bool enabled) : enabled_(enabled) {}
  ~ProgressBar() { Clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(std::string_view stage, int64_t done, int64_t total);
  // Removes the line, before anything else is printed.
  void Clear();

 private:
  using Clock = std::chrono::steady_clock;
  bool enabled_;
  bool drawn_ = false;
  std::string stage_;
  Clock::time_point last_{};
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_PROGRESS_BAR_H_
