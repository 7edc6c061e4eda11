#include "base/flatbuffer.h"

#include <utility>

namespace verify_tflite {
namespace {

// An offset to a table and the table's offset to its vtable.
constexpr size_t kLeastTableBytes = 8;

}  // namespace

FlatBuffer::FlatBuffer(std::span<const std::byte> bytes, std::string what)
    : bytes_(bytes),
      what_(std::move(what)),
      visits_left_(bytes.size() / kLeastTableBytes + 1) {}

void FlatBuffer::Damaged(std::string_view reason) const {
  throw Error("{} is damaged or incomplete: {}", what_, reason);
}

void FlatBuffer::CountVisit() {
  if (visits_left_ == 0) Damaged("tables are shared");
  --visits_left_;
}

FlatTable FlatTables::operator[](size_t i) const {
  if (i >= size_) throw Error("FlatTables: index {} of {}", i, size_);
  buffer_->CountVisit();
  const size_t at = first_ + i * sizeof(uint32_t);
  return FlatTable(*buffer_, at + buffer_->Read<uint32_t>(at));
}

FlatTable FlatTable::Root(FlatBuffer& buffer) {
  return FlatTable(buffer, buffer.Read<uint32_t>(0));
}

FlatTable::FlatTable(FlatBuffer& buffer, size_t offset)
    : buffer_(&buffer), offset_(offset) {
  const auto distance = int64_t{buffer.Read<int32_t>(offset)};
  const int64_t vtable = static_cast<int64_t>(offset) - distance;
  if (vtable < 0) buffer.Damaged("a vtable lies before its beginning");
  vtable_ = static_cast<size_t>(vtable);
  vtable_size_ = buffer.Read<uint16_t>(vtable_);
  table_size_ = buffer.Read<uint16_t>(vtable_ + sizeof(uint16_t));
  const size_t size = buffer.bytes().size();
  if (vtable_size_ < 2 * sizeof(uint16_t) || size - vtable_ < vtable_size_ ||
      table_size_ < sizeof(int32_t) || size - offset_ < table_size_) {
    buffer.Damaged("a table is larger than the rest of it");
  }
}

// Offset of the field's value, absent where the table does not have it.
std::optional<size_t> FlatTable::FieldOffset(size_t field, size_t size) const {
  const size_t entry = (field + 2) * sizeof(uint16_t);
  if (entry + sizeof(uint16_t) > vtable_size_) return std::nullopt;
  const size_t at = buffer_->Read<uint16_t>(vtable_ + entry);
  if (at == 0) return std::nullopt;
  if (at + size > table_size_)
    buffer_->Damaged("a field lies behind its table");
  return offset_ + at;
}

std::optional<FlatTable> FlatTable::Table(size_t field) const {
  const auto at = FieldOffset(field, sizeof(uint32_t));
  if (!at) return std::nullopt;
  buffer_->CountVisit();
  return FlatTable(*buffer_, *at + buffer_->Read<uint32_t>(*at));
}

FlatTable::Extent FlatTable::Vector(size_t field, size_t entry_size) const {
  const auto at = FieldOffset(field, sizeof(uint32_t));
  if (!at) return {};
  const size_t vector = *at + buffer_->Read<uint32_t>(*at);
  const size_t size = buffer_->Read<uint32_t>(vector);
  const size_t first = vector + sizeof(uint32_t);
  if (size > (buffer_->bytes().size() - first) / entry_size) {
    buffer_->Damaged("a vector is longer than the rest of it");
  }
  return {first, size};
}

std::string_view FlatTable::String(size_t field) const {
  const auto bytes = Bytes(field);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> FlatTable::Bytes(size_t field) const {
  const Extent vector = Vector(field, 1);
  return buffer_->bytes().subspan(vector.first, vector.size);
}

FlatTables FlatTable::Tables(size_t field) const {
  const Extent vector = Vector(field, sizeof(uint32_t));
  return {buffer_, vector.first, vector.size};
}

}  // namespace verify_tflite
