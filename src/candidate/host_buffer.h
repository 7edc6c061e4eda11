// Memory of ours that the runtime reads and writes as a tensor.
#ifndef VERIFY_TFLITE_CANDIDATE_HOST_BUFFER_H_
#define VERIFY_TFLITE_CANDIDATE_HOST_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "candidate/runtime.h"
#include "candidate/signatures.h"

namespace verify_tflite {

// Movable; keeps its address when moved. Zeroed at birth; pages are allocated
// as they are touched, so that an unused KV cache costs no memory.
class HostBuffer {
 public:
  // Throws Error that begins with `what` when the memory is not to be had.
  HostBuffer(const TensorSpec& tensor, const std::string& what);

  LiteRtTensorBuffer handle() const { return handle_.get(); }
  ElementType type() const { return type_; }

  // The tensor's elements; T must be as wide as type() says.
  template <typename T>
  std::span<T> As() const {
    return {reinterpret_cast<T*>(memory_.address), bytes_ / sizeof(T)};
  }

 private:
  struct Mapping {
    void* address = nullptr;
    size_t size = 0;
    Mapping() = default;
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    ~Mapping();
  };

  ElementType type_;
  size_t bytes_;
  Mapping memory_;
  // Behind the memory it refers to, so that it goes first.
  Owned<&Runtime::LiteRtDestroyTensorBuffer> handle_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_HOST_BUFFER_H_
