#include "base/protobuf.h"

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

// Wire types that are in use; groups (3 and 4) are not.
constexpr uint32_t kVarintType = 0;
constexpr uint32_t kFixed64Type = 1;
constexpr uint32_t kBytesType = 2;
constexpr uint32_t kFixed32Type = 5;

}  // namespace

void ProtoReader::Damaged(std::string_view reason) const {
  throw Error("{} is damaged or incomplete: {}", what_, reason);
}

uint64_t ProtoReader::TakeVarint(std::string_view& from) const {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (from.empty()) Damaged("a number is cut off");
    const auto byte = static_cast<uint8_t>(from.front());
    from.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  Damaged("a number has more than ten bytes");
}

std::string_view ProtoReader::Take(size_t size) {
  if (size > rest_.size()) Damaged("a field is longer than the rest of it");
  const std::string_view taken = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return taken;
}

bool ProtoReader::Next() {
  if (rest_.empty()) return false;
  const uint64_t tag = TakeVarint(rest_);
  if (tag >> 3 == 0 || tag >> 32 != 0) Damaged("a field has no number");
  field_ = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case kVarintType:
      kind_ = Kind::kVarint;
      number_ = TakeVarint(rest_);
      return true;
    case kBytesType:
      kind_ = Kind::kBytes;
      bytes_ = Take(TakeVarint(rest_));
      return true;
    case kFixed64Type:
      kind_ = Kind::kFixed;
      Take(8);
      return true;
    case kFixed32Type:
      kind_ = Kind::kFixed;
      Take(4);
      return true;
    default:
      Damaged("a field is of no known wire type");
  }
}

std::string_view ProtoReader::Bytes() const {
  if (kind_ != Kind::kBytes) Damaged("a field has the wrong wire type");
  return bytes_;
}

std::string ProtoReader::Text() const {
  const std::string_view text = Bytes();
  if (FindInvalidUtf8(text) != std::string_view::npos) {
    throw Error("{} is damaged: a text is not UTF-8: {}", what_,
                Quote(text.substr(0, 80)));
  }
  return std::string(text);
}

int64_t ProtoReader::Int() const {
  if (kind_ != Kind::kVarint) Damaged("a field has the wrong wire type");
  return static_cast<int64_t>(number_);
}

void ProtoReader::AppendInts(std::vector<int32_t>& values) const {
  if (kind_ == Kind::kVarint) {
    values.push_back(static_cast<int32_t>(number_));
    return;
  }
  for (std::string_view packed = Bytes(); !packed.empty();) {
    values.push_back(static_cast<int32_t>(TakeVarint(packed)));
  }
}

}  // namespace verify_tflite
