// Runs work on behalf of a stranger's program, bounded in time and memory.
#ifndef VERIFY_TFLITE_TEXT_LIMITED_CHILD_H_
#define VERIFY_TFLITE_TEXT_LIMITED_CHILD_H_

#include <cstddef>
#include <functional>
#include <string>

namespace verify_tflite {

struct ChildLimits {
  unsigned cpu_seconds = 2;
  unsigned clock_seconds = 60;  // should it wait for what never comes
  size_t memory_bytes = size_t{512} << 20;  // beyond what is in use already
};

// Runs `work` in a forked child process and returns what it returns. Throws
// Error with the message of the exception that `work` threw, or one that says
// which limit it met, or that it crashed. The child has only the calling
// thread: `work` must not wait for others. Takes about a millisecond.
std::string RunInLimitedChild(const std::function<std::string()>& work,
                              const ChildLimits& limits = {});

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_LIMITED_CHILD_H_
