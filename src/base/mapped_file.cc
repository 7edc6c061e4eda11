#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/no_file.h"

namespace verify_tflite {
namespace {

// Closes the descriptor on every way out of the constructor.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) {
    throw Error("{}: cannot open: {}", path, std::strerror(errno));
  }
  struct stat info;
  if (fstat(file.fd, &info) != 0) {
    throw Error("{}: cannot stat: {}", path, std::strerror(errno));
  }
  if (S_ISDIR(info.st_mode)) {
    throw Error("{}: is a directory, expected a file", path);
  }
  if (!S_ISREG(info.st_mode)) throw Error("{}: not a regular file", path);
  if (info.st_size == 0) throw Error("{}: the file is empty: download or copy it again", path);
  size_ = static_cast<size_t>(info.st_size);
  void* address = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (address == MAP_FAILED) {
    throw Error("{}: cannot map {} bytes: {}", path, size_,
                std::strerror(errno));
  }
  data_ = static_cast<const std::byte*>(address);
  // Whoever catches this has no use for the mapping.
  try {
    RefuseLfsPointer({static_cast<const char*>(address), size_}, path);
  } catch (...) {
    munmap(address, size_);
    throw;
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

bool FileExists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace verify_tflite
