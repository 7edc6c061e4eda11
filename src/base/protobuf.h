// Reads protocol buffers (https://protobuf.dev/programming-guides/encoding/)
// without generated code, field by field. The bytes may hold anything.
#ifndef VERIFY_TFLITE_BASE_PROTOBUF_H_
#define VERIFY_TFLITE_BASE_PROTOBUF_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

// for (ProtoReader reader(bytes, what); reader.Next();) switch (reader.field())
//
// Fields that are not asked for are skipped. Only AppendInts copies or
// allocates.
class ProtoReader {
 public:
  // `what` begins the message of every Error: "<path>: LlmMetadata". Both must
  // outlive the reader.
  ProtoReader(std::string_view bytes, const std::string& what)
      : rest_(bytes), what_(what) {}

  // Reads the next field. Returns false at the end. Throws Error for bytes that
  // are no message.
  bool Next();

  uint32_t field() const { return field_; }
  // They return the value of a string, bytes or message field, or of an
  // integer, bool or enum field. They throw Error when the field is of another
  // kind.
  std::string_view Bytes() const;
  int64_t Int() const;
  // Returns whether Bytes() would give the value.
  bool is_bytes() const { return kind_ == Kind::kBytes; }
  // Returns the value of a string field. Throws Error when it is not UTF-8,
  // because its users rely on that.
  std::string Text() const;
  // Appends the value, or the packed values, of a repeated int32 field.
  void AppendInts(std::vector<int32_t>& values) const;

 private:
  enum class Kind { kVarint, kFixed, kBytes };

  [[noreturn]] void Damaged(std::string_view reason) const;
  uint64_t TakeVarint(std::string_view& from) const;
  std::string_view Take(size_t size);

  std::string_view rest_;
  const std::string& what_;
  uint32_t field_ = 0;
  Kind kind_ = Kind::kVarint;
  uint64_t number_ = 0;
  std::string_view bytes_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_PROTOBUF_H_
