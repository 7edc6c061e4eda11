// A file mapped read-only into memory.
#ifndef VERIFY_TFLITE_BASE_MAPPED_FILE_H_
#define VERIFY_TFLITE_BASE_MAPPED_FILE_H_

#include <cstddef>
#include <span>
#include <string>

namespace verify_tflite {

// Movable, not copyable. The mapping keeps its address when moved, so spans
// into bytes() stay valid until the owner is destroyed.
//
// A file that another process truncates while it is mapped raises SIGBUS on
// access; cli/ turns that into an error message.
class MappedFile {
 public:
  // Throws Error when `path` does not exist, is not a regular file, is empty,
  // cannot be read or mapped, or is a Git LFS pointer (RefuseLfsPointer).
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Returns false also where that cannot be looked up.
bool FileExists(const std::string& path);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_MAPPED_FILE_H_
