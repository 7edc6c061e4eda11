// SPDX-License-Identifier: Apache-2.0
#include "tflite/tap_image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace verify_tflite::tflite {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

TapImage::TapImage(const std::string& path, size_t offset, size_t size,
                   const TapPatch& patch) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat info;
  if (file.fd < 0 || fstat(file.fd, &info) != 0) {
    throw Error("{}: cannot open: {}", path, std::strerror(errno));
  }
  if (static_cast<size_t>(info.st_size) < offset + size) {
    throw Error("{}: has been changed while it was read", path);
  }
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (kTapShiftUnit % page != 0) {
    throw Error("memory pages of {} bytes, expected at most {}", page,
                kTapShiftUnit);
  }
  const size_t before = offset % page;
  const size_t begin = offset - before;  // of the first page, in the file
  const bool moves = patch.moved_begin < size;
  const size_t whole =
      moves ? size + patch.shift : patch.tail_begin + patch.tail.size();
  // Memory first, then the file over its parts: the tail may take more pages
  // than the file does. The page in which what moves begins is there twice.
  mapped_ = before + whole;
  address_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  const auto map = [&](size_t from, size_t to, size_t shift) {
    return mmap(static_cast<std::byte*>(address_) + from + shift, to - from,
                PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                file.fd, static_cast<off_t>(begin + from)) != MAP_FAILED;
  };
  const size_t moved_page = (before + patch.moved_begin) / page * page;
  if (address_ == MAP_FAILED || !map(0, before + patch.moved_begin, 0) ||
      (moves && !map(moved_page, before + size, patch.shift))) {
    const int reason = errno;
    if (address_ != MAP_FAILED) munmap(address_, mapped_);
    throw Error("{}: cannot map {} bytes: {}", path, mapped_,
                std::strerror(reason));
  }
  model_ = {static_cast<std::byte*>(address_) + before, whole};
  for (const auto& [at, word] : patch.words) {
    std::memcpy(model_.subspan(at, sizeof(word)).data(), &word, sizeof(word));
  }
  for (const auto& [at, place] : patch.offsets) {
    std::memcpy(model_.subspan(at, sizeof(place)).data(), &place,
                sizeof(place));
  }
  std::ranges::copy(patch.tail, model_.subspan(patch.tail_begin).begin());
}

TapImage::~TapImage() { munmap(address_, mapped_); }

}  // namespace verify_tflite::tflite
