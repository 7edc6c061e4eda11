// What a library writes to standard error, kept from the user's terminal.
#ifndef VERIFY_TFLITE_CANDIDATE_STDERR_CAPTURE_H_
#define VERIFY_TFLITE_CANDIDATE_STDERR_CAPTURE_H_

#include <string>

namespace verify_tflite {

// From construction to destruction, file descriptor 2 of the whole process
// writes into memory. Where the system cannot do that, nothing is redirected
// and the text stays empty.
class StderrCapture {
 public:
  StderrCapture();
  ~StderrCapture();
  StderrCapture(const StderrCapture&) = delete;
  StderrCapture& operator=(const StderrCapture&) = delete;

  // What was written so far, at most the first `limit` bytes.
  std::string Text(size_t limit) const;

 private:
  int saved_ = -1;
  int memory_ = -1;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_STDERR_CAPTURE_H_
