// Reads FlatBuffers (https://flatbuffers.dev/internals/) without generated
// code. Fields are named by their number in the schema. Every access is checked
// against the buffer, which may hold anything.
#ifndef VERIFY_TFLITE_BASE_FLATBUFFER_H_
#define VERIFY_TFLITE_BASE_FLATBUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/error.h"

namespace verify_tflite {

// Holds what all tables of one buffer share. It must outlive them, as must the
// bytes.
class FlatBuffer {
 public:
  // `what` begins the message of every Error: "<path>: the header".
  FlatBuffer(std::span<const std::byte> bytes, std::string what);
  FlatBuffer(const FlatBuffer&) = delete;
  FlatBuffer& operator=(const FlatBuffer&) = delete;

  [[noreturn]] void Damaged(std::string_view reason) const;

  // Counts a visit. Throws Error once there were more visits than tables fit
  // into the buffer, because offsets that share tables would make a small file
  // take hours to walk.
  void CountVisit();

  std::span<const std::byte> bytes() const { return bytes_; }

  // Returns the T at `offset`. Throws Error when it lies outside.
  template <typename T>
  T Read(size_t offset) const {
    static_assert(std::is_arithmetic_v<T>);
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) {
      Damaged("an offset points behind its end");
    }
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  std::string what_;
  size_t visits_left_;
};

class FlatTable;

// A vector of scalars; unaligned.
template <typename T>
class FlatScalars {
 public:
  FlatScalars() = default;
  FlatScalars(const std::byte* data, size_t size) : data_(data), size_(size) {}
  size_t size() const { return size_; }
  T operator[](size_t i) const {
    if (i >= size_) throw Error("FlatScalars: index {} of {}", i, size_);
    T value;
    std::memcpy(&value, data_ + i * sizeof(T), sizeof(T));
    return value;
  }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A vector of tables.
class FlatTables {
 public:
  FlatTables() = default;
  FlatTables(FlatBuffer* buffer, size_t first, size_t size)
      : buffer_(buffer), first_(first), size_(size) {}
  size_t size() const { return size_; }
  FlatTable operator[](size_t i) const;

 private:
  FlatBuffer* buffer_ = nullptr;
  size_t first_ = 0;  // offset of the first entry
  size_t size_ = 0;
};

// A table. `field` is the field's number in the schema, from 0; a union takes
// two: its type, then its value.
class FlatTable {
 public:
  static FlatTable Root(FlatBuffer& buffer);
  // Checks the vtable of the table at `offset`. Throws Error for a damaged one.
  FlatTable(FlatBuffer& buffer, size_t offset);

  template <typename T>
  T Scalar(size_t field, T fallback) const {
    const auto at = FieldOffset(field, sizeof(T));
    return at ? buffer_->Read<T>(*at) : fallback;
  }
  // Absent fields are absent tables and empty strings and vectors.
  std::optional<FlatTable> Table(size_t field) const;
  std::string_view String(size_t field) const;
  FlatTables Tables(size_t field) const;
  template <typename T>
  FlatScalars<T> Scalars(size_t field) const {
    const auto vector = Vector(field, sizeof(T));
    return {buffer_->bytes().data() + vector.first, vector.size};
  }
  std::span<const std::byte> Bytes(size_t field) const;
  // Returns where in the buffer the field lies; nothing where the table does
  // not have it.
  template <typename T>
  std::optional<size_t> PlaceOf(size_t field) const {
    return FieldOffset(field, sizeof(T));
  }
  // Returns the same of an offset to a table, string or vector.
  std::optional<size_t> PlaceOfOffset(size_t field) const {
    return FieldOffset(field, sizeof(uint32_t));
  }

 private:
  struct Extent {
    size_t first = 0;  // offset of the first entry
    size_t size = 0;   // entries
  };
  std::optional<size_t> FieldOffset(size_t field, size_t size) const;
  Extent Vector(size_t field, size_t entry_size) const;

  FlatBuffer* buffer_;
  size_t offset_;
  size_t vtable_ = 0;
  uint16_t vtable_size_ = 0;
  uint16_t table_size_ = 0;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_FLATBUFFER_H_
