#include "candidate/stderr_capture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdio>

namespace verify_tflite {

StderrCapture::StderrCapture() {
  std::fflush(stderr);
  // Not below 3: with standard input or output closed, the copy would take
  // their place.
  saved_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  memory_ = memfd_create("stderr", MFD_CLOEXEC);
  if (saved_ < 0 || memory_ < 0) return;
  dup2(memory_, STDERR_FILENO);
}

StderrCapture::~StderrCapture() {
  std::fflush(stderr);
  if (saved_ >= 0 && memory_ >= 0) dup2(saved_, STDERR_FILENO);
  if (saved_ >= 0) close(saved_);
  if (memory_ >= 0) close(memory_);
}

std::string StderrCapture::Text(size_t limit) const {
  std::fflush(stderr);
  if (memory_ < 0) return "";
  std::string text(limit, '\0');
  const ssize_t read = pread(memory_, text.data(), limit, 0);
  text.resize(read > 0 ? static_cast<size_t>(read) : 0);
  return text;
}

}  // namespace verify_tflite
