// Prints how long passes take and how much memory they need.
//   reference_benchmark CHECKPOINT [THREADS [MAX_DOT_ROWS]]
// CPU time is the one to compare on a busy machine (with
// OMP_WAIT_POLICY=passive, or waiting threads count).
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "reference/reference.h"

namespace verify_tflite {
namespace {

double CpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * time.tv_nsec;
}

double PeakMegabytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

// The fastest of `repeats` passes of `sequences` x `tokens` after `past`.
void Measure(Reference& reference, Reference::Times& times, int sequences,
             int tokens, int past, int repeats) {
  std::vector<int32_t> ids(std::max(tokens, past));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(i % 900);
  const std::span<const int32_t> all(ids);
  std::vector<Sequence> held;
  for (int i = 0; i < sequences; ++i) held.push_back(reference.NewSequence());
  const auto score = [&](int count, int64_t logit_rows) {
    std::vector<Reference::Item> items;
    for (Sequence& sequence : held) {
      items.push_back({&sequence, all.first(count), logit_rows});
    }
    reference.Score(items, [](size_t, int64_t, std::span<const float>) {});
  };
  if (past > 0) score(past, 0);
  Reference::Times best;
  double best_cpu = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) {
    for (Sequence& sequence : held) sequence.Truncate(past);
    times = {};
    const double start = CpuSeconds();
    score(tokens, tokens);
    best_cpu = std::min(best_cpu, CpuSeconds() - start);
    if (i == 0 || times.total < best.total) best = times;
  }
  fmt::print(
      "{} x {:3} after {:2}: {:6.1f} ms (layers' linear {:6.1f}, attention "
      "{:5.1f}, head {:5.1f}), CPU {:6.1f} ms, peak {:.0f} MB\n",
      sequences, tokens, past, best.total * 1e3,
      (best.linear - best.head) * 1e3, best.attention * 1e3, best.head * 1e3,
      best_cpu * 1e3, PeakMegabytes());
}

void Run(const std::string& path, int threads,
         std::optional<int64_t> max_dot_rows) {
  const Checkpoint checkpoint = Checkpoint::Open(path);
  Reference::Times times;
  Reference reference = Reference::Open(
      checkpoint,
      {.num_threads = threads, .times = &times, .max_dot_rows = max_dot_rows});
  fmt::print("{}, {} threads; peak {:.0f} MB after opening\n", path, threads,
             PeakMegabytes());
  Measure(reference, times, 1, 1, 60, 7);
  Measure(reference, times, 2, 1, 60, 7);
  for (const int rows : {2, 4, 8, 16}) {
    Measure(reference, times, 2, rows, 60, 5);
  }
  Measure(reference, times, 1, 60, 0, 5);
  Measure(reference, times, 1, 512, 0, 3);
}

}  // namespace
}  // namespace verify_tflite

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(
        stderr,
        "usage: reference_benchmark CHECKPOINT [THREADS [MAX_DOT_ROWS]]\n");
    return 2;
  }
  try {
    std::optional<int64_t> max_dot_rows;
    if (argc > 3) max_dot_rows = std::atoll(argv[3]);
    verify_tflite::Run(argv[1], argc > 2 ? std::atoi(argv[2]) : 2,
                       max_dot_rows);
  } catch (const verify_tflite::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 2;
  }
}
