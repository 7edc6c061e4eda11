#include "cli/memory_watch.h"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <iterator>
#include <string>

namespace verify_tflite {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(20);

// "RssAnon:	   1234 kB"; 0 where there is no such line.
int64_t Field(std::string_view status, std::string_view name) {
  const size_t at = status.find(name);
  if (at == std::string_view::npos) return 0;
  std::string_view rest = status.substr(at + name.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(": \t"), rest.size()));
  int64_t kibibytes = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), kibibytes);
  return kibibytes * 1024;
}

std::string OwnStatus() {
  std::ifstream file("/proc/self/status");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

Resident ReadResident(std::string_view status) {
  return {
      .mapped = Field(status, "\nRssFile"),
      .anonymous = Field(status, "\nRssAnon") + Field(status, "\nRssShmem")};
}

int64_t PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

MemoryWatch::MemoryWatch()
    : thread_([this](const std::stop_token& stop) {
        std::mutex mutex;
        std::unique_lock lock(mutex);
        std::condition_variable_any wake;
        while (!wake.wait_for(lock, stop, kInterval,
                              [&] { return stop.stop_requested(); })) {
          const Resident now = ReadResident(OwnStatus());
          const std::lock_guard guard(mutex_);
          if (now.all() > largest_.all()) largest_ = now;
        }
      }) {}

PeakMemory MemoryWatch::Peak() const {
  const int64_t bytes = PeakResidentBytes();
  const std::lock_guard guard(mutex_);
  return {.bytes = bytes, .mapped_bytes = std::min(bytes, largest_.mapped)};
}

}  // namespace verify_tflite
