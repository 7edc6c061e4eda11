// Runs work at the same time as the main work.
#ifndef VERIFY_TFLITE_CLI_BACKGROUND_H_
#define VERIFY_TFLITE_CLI_BACKGROUND_H_

#include <future>
#include <stop_token>
#include <thread>
#include <utility>

namespace verify_tflite {

// Runs `work` in a thread of its own. The destructor asks it to stop and waits,
// so that a caller that fails early need not wait for all of it.
template <typename Result>
class Background {
 public:
  template <typename Work>
  explicit Background(Work work) {
    std::packaged_task<Result(std::stop_token)> task(std::move(work));
    result_ = task.get_future();
    thread_ =
        std::jthread([task = std::move(task)](
                         const std::stop_token& stop) mutable { task(stop); });
  }

  // Waits for the result. Call it once. Throws what `work` threw.
  Result Get() { return result_.get(); }

 private:
  std::future<Result> result_;
  std::jthread thread_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_BACKGROUND_H_
