#include "reference/weight_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "reference/kernels.h"

namespace verify_tflite {
namespace {

int OpenAgain(const MappedFile& file) {
  const int fd = open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    throw Error("{}: cannot open: {}", file.path(), std::strerror(errno));
  }
  struct stat info;
  if (fstat(fd, &info) != 0 ||
      static_cast<size_t>(info.st_size) != file.bytes().size()) {
    close(fd);
    throw Error("{}: the file has changed; run again when it is complete",
                file.path());
  }
  return fd;
}

off_t OffsetOf(const TensorView& tensor) {
  return tensor.data.data() - tensor.file->bytes().data();
}

}  // namespace

WeightReader::WeightReader(const Checkpoint& checkpoint) {
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (tensor.file && !descriptors_.contains(tensor.file)) {
      descriptors_[tensor.file] = OpenAgain(*tensor.file);
    }
  }
}

WeightReader::~WeightReader() {
  for (const auto& [file, descriptor] : descriptors_) close(descriptor);
}

void WeightReader::Read(const TensorView& tensor, int64_t first, int64_t count,
                        std::byte* out) const {
  if (tensor.read != nullptr) {
    (*tensor.read)(tensor.read_first + first, count,
                   reinterpret_cast<float*>(out));
    return;
  }
  if (!tensor.file) {
    const size_t size = SizeOf(tensor.dtype);
    std::memcpy(out, tensor.data.data() + first * size, count * size);
    return;
  }
  const int descriptor = descriptors_.at(tensor.file);
  const size_t element = SizeOf(tensor.dtype);
  off_t offset = OffsetOf(tensor) + first * static_cast<off_t>(element);
  size_t left = count * element;
  while (left > 0) {
    const ssize_t got = pread(descriptor, out, left, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw Error("{}: cannot read: {}", tensor.file->path(),
                  got < 0 ? std::strerror(errno)
                          : "the file has become shorter meanwhile");
    }
    out += got;
    offset += got;
    left -= got;
  }
}

void WeightReader::ReadFloats(const TensorView& tensor, int64_t first,
                              int64_t count, float* out) const {
  std::vector<std::byte> raw(count * SizeOf(tensor.dtype));
  Read(tensor, first, count, raw.data());
  Widen(tensor.dtype, raw.data(), count, out);
}

void WeightReader::WillNeed(const TensorView& tensor) const {
  if (!tensor.file) return;
  posix_fadvise(descriptors_.at(tensor.file), OffsetOf(tensor),
                static_cast<off_t>(tensor.data.size()), POSIX_FADV_WILLNEED);
}

}  // namespace verify_tflite
