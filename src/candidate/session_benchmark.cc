// How long a converted model takes to open, compile and run, and what memory
// it needs:
//
//   session_benchmark MODEL.tflite [THREADS] [PROMPT_LENGTH] [STEPS]
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "candidate/model.h"
#include "candidate/prefill_plan.h"
#include "candidate/session.h"

using namespace verify_tflite;

namespace {

class Stopwatch {
 public:
  // Milliseconds since construction or the last call.
  double Lap() {
    const Clock::time_point now = Clock::now();
    const std::chrono::duration<double, std::milli> lap = now - last_;
    last_ = now;
    return lap.count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
};

double PeakMegabytes() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void Run(const std::string& path, int threads, int64_t prompt_length,
         int steps) {
  Stopwatch watch;
  const Model model = Model::Open(path);
  const double open = watch.Lap();

  std::vector<int64_t> lengths;
  for (const PrefillInfo& prefill : model.info().prefills) {
    lengths.push_back(prefill.length);
  }
  const PrefillPlan plan =
      PlanPrefill(lengths, model.info().kv_length, 0, prompt_length);
  Session session =
      Session::Create(model, {&plan, 1}, {.num_threads = threads});
  const double compile = watch.Lap();

  const std::vector<int32_t> prompt(static_cast<size_t>(prompt_length), 1);
  KvCache kv = session.NewKvCache();
  session.Prefill(kv, prompt);
  const double first_prefill = watch.Lap();
  session.Decode(kv, 1);
  const double first_decode = watch.Lap();
  kv.Truncate(0);
  session.Prefill(kv, prompt);
  const double prefill = watch.Lap();

  std::vector<double> laps;
  for (int i = 0; i < steps; ++i) {
    session.Decode(kv, 1);
    laps.push_back(watch.Lap());
  }
  std::nth_element(laps.begin(), laps.begin() + steps / 2, laps.end());
  fmt::print(
      "open {:.0f} ms, compile {:.0f} ms, prefill of {} first {:.0f} ms then "
      "{:.0f} ms, decode first {:.0f} ms then {:.1f} ms ({:.1f} tokens/s), "
      "peak {:.0f} MB\n",
      open, compile, prompt_length, first_prefill, prefill, first_decode,
      laps[steps / 2], 1000 / laps[steps / 2], PeakMegabytes());
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    fmt::print(stderr,
               "usage: session_benchmark MODEL.tflite [THREADS] "
               "[PROMPT_LENGTH] [STEPS]\n");
    return 2;
  }
  Run(argv[1], argc > 2 ? std::stoi(argv[2]) : 1,
      argc > 3 ? std::stoi(argv[3]) : 60,
      std::max(1, argc > 4 ? std::stoi(argv[4]) : 48));
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "{}\n", e.what());
  return 2;
}
