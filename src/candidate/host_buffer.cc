#include "candidate/host_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace verify_tflite {
namespace {

// XNNPACK's kernels read past the end of a tensor (XNN_EXTRA_BYTES is 16).
constexpr size_t kSlack = 128;

LiteRtRankedTensorType RankedType(const TensorSpec& tensor) {
  LiteRtRankedTensorType type = {};
  type.element_type = ToAbi(tensor.type);
  type.layout.rank = static_cast<unsigned>(tensor.dims.size());
  std::transform(tensor.dims.begin(), tensor.dims.end(), type.layout.dimensions,
                 [](int64_t dim) { return static_cast<int32_t>(dim); });
  return type;
}

}  // namespace

HostBuffer::Mapping::Mapping(Mapping&& other) noexcept
    : address(std::exchange(other.address, nullptr)),
      size(std::exchange(other.size, 0)) {}

HostBuffer::Mapping& HostBuffer::Mapping::operator=(Mapping&& other) noexcept {
  std::swap(address, other.address);
  std::swap(size, other.size);
  return *this;
}

HostBuffer::Mapping::~Mapping() {
  if (address != nullptr) munmap(address, size);
}

HostBuffer::HostBuffer(const TensorSpec& tensor, const std::string& what)
    : type_(tensor.type), bytes_(static_cast<size_t>(ByteSize(tensor))) {
  // A mapping begins at a page, which is more than the 64 bytes the runtime
  // asks for.
  void* address = mmap(nullptr, bytes_ + kSlack, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    throw Error("{}: no memory for {}, {} bytes: {}", what, Describe(tensor),
                bytes_, std::strerror(errno));
  }
  memory_.address = address;
  memory_.size = bytes_ + kSlack;
  const LiteRtRankedTensorType type = RankedType(tensor);
  Call(what + ": cannot bind " + Describe(tensor),
       Runtime::Get().LiteRtCreateTensorBufferFromHostMemory, &type, address,
       bytes_, nullptr, handle_.receive());
}

}  // namespace verify_tflite
