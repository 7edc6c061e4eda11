#include "base/testing_zip.h"

#include <string_view>

namespace verify_tflite {
namespace {

template <typename T>
std::string Number(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}
std::string N2(uint64_t value) { return Number(static_cast<uint16_t>(value)); }
std::string N4(uint64_t value) { return Number(static_cast<uint32_t>(value)); }
std::string N8(uint64_t value) { return Number(value); }

constexpr uint32_t kIn64 = 0xFFFFFFFF;

std::string Padding(size_t before, size_t alignment) {
  // An extra field of its own has 4 bytes of header.
  const size_t count = (alignment - (before + 4) % alignment) % alignment;
  return "FB" + N2(count) + std::string(count, 'Z');
}

std::string LocalHeader(const ZipPart& part, const ZipOptions& options,
                        size_t offset) {
  const uint64_t size = options.sizes_follow ? 0 : part.data.size();
  const uint16_t flags = part.flags | (options.sizes_follow ? 8 : 0);
  const bool in_64 = options.zip64 && !options.sizes_follow;
  std::string extra = in_64 ? N2(1) + N2(16) + N8(size) + N8(size) : "";
  if (options.alignment > 1) {
    extra += Padding(offset + 30 + part.name.size() + extra.size(),
                     options.alignment);
  }
  return "PK\3\4" + N2(45) + N2(flags) + N2(part.method) + N4(0) + N4(0) +
         N4(in_64 ? kIn64 : size) + N4(in_64 ? kIn64 : size) +
         N2(part.name.size()) + N2(extra.size()) + part.name + extra;
}

std::string CentralHeader(const ZipPart& part, const ZipOptions& options,
                          size_t offset) {
  const uint64_t size = part.data.size();
  const uint16_t flags = part.flags | (options.sizes_follow ? 8 : 0);
  const bool in_64 = options.zip64;
  const std::string extra =
      in_64 ? N2(1) + N2(24) + N8(size) + N8(size) + N8(offset) : "";
  return "PK\1\2" + N2(45) + N2(45) + N2(flags) + N2(part.method) + N4(0) +
         N4(0) + N4(in_64 ? kIn64 : size) + N4(in_64 ? kIn64 : size) +
         N2(part.name.size()) + N2(extra.size()) + N2(0) + N2(0) + N2(0) +
         N4(0) + N4(in_64 ? kIn64 : offset) + part.name + extra;
}

}  // namespace

std::string MakeZip(const std::vector<ZipPart>& parts,
                    const ZipOptions& options) {
  std::string file, directory;
  for (const ZipPart& part : parts) {
    directory += CentralHeader(part, options, file.size());
    file += LocalHeader(part, options, file.size()) + part.data;
    if (options.sizes_follow) {
      file += "PK\7\10" + N4(0) + N4(part.data.size()) + N4(part.data.size());
    }
  }
  const size_t offset = file.size();
  const size_t count = parts.size();
  file += directory;
  if (options.zip64) {
    const size_t end64 = file.size();
    file += "PK\6\6" + N8(44) + N2(45) + N2(45) + N4(0) + N4(0) + N8(count) +
            N8(count) + N8(directory.size()) + N8(offset);
    file += "PK\6\7" + N4(0) + N8(end64) + N4(1);
  }
  return file + "PK\5\6" + N2(0) + N2(0) + N2(options.zip64 ? 0xFFFF : count) +
         N2(options.zip64 ? 0xFFFF : count) +
         N4(options.zip64 ? kIn64 : directory.size()) +
         N4(options.zip64 ? kIn64 : offset) + N2(options.comment.size()) +
         options.comment;
}

}  // namespace verify_tflite
