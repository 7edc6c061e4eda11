// Measures how much memory a run takes, and of which kind.
#ifndef VERIFY_TFLITE_CLI_MEMORY_WATCH_H_
#define VERIFY_TFLITE_CLI_MEMORY_WATCH_H_

#include <cstdint>
#include <mutex>
#include <string_view>
#include <thread>

namespace verify_tflite {

// The bytes that are resident now, from the text of /proc/<pid>/status
// (proc(5)).
struct Resident {
  int64_t mapped = 0;     // pages of files, which the system can drop
  int64_t anonymous = 0;  // all else, memory files (memfd) included
  int64_t all() const { return mapped + anonymous; }
};
Resident ReadResident(std::string_view status);

// Returns the largest resident set of this process so far, as the system counts
// it.
int64_t PeakResidentBytes();

struct PeakMemory {
  int64_t bytes = 0;  // PeakResidentBytes
  // The part of it that is pages of mapped files, at the largest of the moments
  // looked at.
  int64_t mapped_bytes = 0;
};

// Looks at this process 50 times a second from construction to destruction: the
// system keeps the peak, but not what it was made of.
class MemoryWatch {
 public:
  MemoryWatch();
  PeakMemory Peak() const;

 private:
  mutable std::mutex mutex_;
  Resident largest_;
  std::jthread thread_;  // the last: ends before what it writes to
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_MEMORY_WATCH_H_
