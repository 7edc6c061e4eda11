#include "cli/output_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace verify_tflite {
namespace {

[[noreturn]] void Fail(const std::string& path) {
  throw Error("{}: cannot write: {}", path, std::strerror(errno));
}

bool IsSpecial(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
}

void WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) Fail(path);
    content.remove_prefix(static_cast<size_t>(written));
  }
}

// A new file beside the one `path` leads to (links followed, so that a link
// stays one). Removed by the destructor unless it was renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& path)
      : target_(std::filesystem::weakly_canonical(path).string()),
        name_(target_ + ".XXXXXX") {
    fd_ = mkstemp(name_.data());
    if (fd_ < 0) Fail(path);
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(fd_, 0666 & ~mask);
  }
  ~TemporaryFile() {
    if (fd_ >= 0) close(fd_);
    if (!renamed_) unlink(name_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  int fd() const { return fd_; }
  void Rename() {
    const int result = close(fd_);
    fd_ = -1;
    if (result != 0 || rename(name_.c_str(), target_.c_str()) != 0) {
      Fail(target_);
    }
    renamed_ = true;
  }

 private:
  std::string target_;
  std::string name_;
  int fd_ = -1;
  bool renamed_ = false;
};

}  // namespace

void CheckWritable(const std::string& path) {
  if (IsSpecial(path)) {
    if (std::filesystem::is_directory(path)) {
      throw Error("{}: cannot write: is a directory, expected a file name",
                  path);
    }
    if (access(path.c_str(), W_OK) != 0) Fail(path);
    return;
  }
  TemporaryFile probe(path);
}

void WriteWhole(const std::string& path, std::string_view content) {
  if (IsSpecial(path)) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) Fail(path);
    try {
      WriteAll(fd, content, path);
    } catch (...) {
      close(fd);
      throw;
    }
    close(fd);
    return;
  }
  TemporaryFile file(path);
  WriteAll(file.fd(), content, path);
  file.Rename();
}

}  // namespace verify_tflite
