// Prints how long passes take and how much memory they need.
//   reference_benchmark CHECKPOINT [THREADS]
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "reference/reference.h"

namespace verify_tflite {
namespace {

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
  for (int i = 0; i < repeats; ++i) {
    for (Sequence& sequence : held) sequence.Truncate(past);
    times = {};
    score(tokens, tokens);
    if (i == 0 || times.total < best.total) best = times;
  }
  fmt::print(
      "{:2} x {:3} after {:3}: {:7.1f} ms = linear {:6.1f} + attention {:5.1f} "
      "+ head {:5.1f} + rest {:4.1f}; peak {:.0f} MB\n",
      sequences, tokens, past, best.total * 1e3, best.linear * 1e3,
      best.attention * 1e3, best.head * 1e3,
      (best.total - best.linear - best.attention - best.head) * 1e3,
      PeakMegabytes());
}

void Run(const std::string& path, int threads) {
  const Checkpoint checkpoint = Checkpoint::Open(path);
  Reference::Times times;
  Reference reference =
      Reference::Open(checkpoint, {.num_threads = threads, .times = &times});
  fmt::print("{}, {} threads; peak {:.0f} MB after opening\n", path, threads,
             PeakMegabytes());
  Measure(reference, times, 1, 1, 60, 7);
  Measure(reference, times, 2, 1, 60, 7);
  for (const int rows : {2, 4, 6, 8, 12, 16, 32}) {
    Measure(reference, times, 2, rows, 60, 5);
  }
  Measure(reference, times, 1, 60, 0, 5);
  Measure(reference, times, 1, 512, 0, 3);
}

}  // namespace
}  // namespace verify_tflite

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: reference_benchmark CHECKPOINT [THREADS]\n");
    return 2;
  }
  try {
    verify_tflite::Run(argv[1], argc > 2 ? std::atoi(argv[2]) : 2);
  } catch (const verify_tflite::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 2;
  }
}
