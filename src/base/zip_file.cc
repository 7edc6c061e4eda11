#include "base/zip_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

static_assert(std::endian::native == std::endian::little,
              "zip numbers are little-endian and read in place");

constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr uint32_t kCentralSignature = 0x02014b50;
constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kLocator64Signature = 0x07064b50;

constexpr uint64_t kLocalBytes = 30;
constexpr uint64_t kCentralBytes = 46;
constexpr uint64_t kEndBytes = 22;
constexpr uint64_t kEnd64Bytes = 56;
constexpr uint64_t kLocator64Bytes = 20;

constexpr uint16_t kZip64Extra = 1;
constexpr uint16_t kEncrypted = 1 << 0;
constexpr uint16_t kSizesFollowData = 1 << 3;
constexpr uint16_t kMethodStored = 0;

constexpr uint16_t kIn64Short = 0xFFFF;  // "see the zip64 record"
constexpr uint32_t kIn64 = 0xFFFFFFFF;

// Checked access to the file.
class Bytes {
 public:
  explicit Bytes(const MappedFile& file) : file_(file) {}

  uint64_t size() const { return file_.bytes().size(); }

  template <typename... Args>
  [[noreturn]] void Fail(fmt::format_string<Args...> format,
                         Args&&... args) const {
    throw Error("{}: damaged zip archive: {}; copy or download it again",
                file_.path(), fmt::format(format, std::forward<Args>(args)...));
  }

  // `count` bytes at `offset`; `what` they would be.
  std::span<const std::byte> Slice(uint64_t offset, uint64_t count,
                                   std::string_view what) const {
    if (offset > size() || count > size() - offset) {
      Fail("{} would take {} bytes at {}, the file has {}", what, count, offset,
           size());
    }
    return file_.bytes().subspan(offset, count);
  }

  bool Holds(uint64_t offset, uint32_t signature) const {
    return size() >= sizeof(signature) &&
           offset <= size() - sizeof(signature) &&
           std::memcmp(file_.bytes().data() + offset, &signature,
                       sizeof(signature)) == 0;
  }

 private:
  const MappedFile& file_;
};

// The number at `offset` of a record whose length has been checked.
template <typename T>
T At(std::span<const std::byte> record, size_t offset) {
  T value;
  std::memcpy(&value, record.data() + offset, sizeof(value));
  return value;
}

std::string_view Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct Directory {
  uint64_t entries;
  uint64_t offset;
  uint64_t size;
  uint64_t end;  // where the first end record begins
};

// Offset of the end record: the last one whose comment ends with the file.
uint64_t FindEnd(const Bytes& bytes) {
  constexpr uint64_t kMaxComment = 0xFFFF;
  for (uint64_t comment = 0;
       comment <= kMaxComment && kEndBytes + comment <= bytes.size();
       ++comment) {
    const uint64_t offset = bytes.size() - kEndBytes - comment;
    if (bytes.Holds(offset, kEndSignature) &&
        At<uint16_t>(bytes.Slice(offset, kEndBytes, "end"), 20) == comment) {
      return offset;
    }
  }
  bytes.Fail("no end record, the file may be truncated");
}

// A field of the end record counts as such, or says "see the zip64 record".
template <typename T>
void CheckAgrees(const Bytes& bytes, T field, T see_64, uint64_t value) {
  if (field != see_64 && field != value) {
    bytes.Fail("the two end records differ: {} and {}", field, value);
  }
}

Directory ReadEnd64(const Bytes& bytes, uint64_t locator_offset,
                    std::span<const std::byte> end) {
  const auto locator =
      bytes.Slice(locator_offset, kLocator64Bytes, "zip64 locator");
  const auto offset = At<uint64_t>(locator, 8);
  if (At<uint32_t>(locator, 4) != 0 || At<uint32_t>(locator, 16) > 1) {
    bytes.Fail("it is one part of several");
  }
  const auto record = bytes.Slice(offset, kEnd64Bytes, "zip64 end record");
  // The length of the record does not count its first 12 bytes.
  const auto length = At<uint64_t>(record, 4);
  if (At<uint32_t>(record, 0) != kEnd64Signature || length < kEnd64Bytes - 12 ||
      offset > locator_offset || length != locator_offset - offset - 12) {
    bytes.Fail("no zip64 end record at {}", offset);
  }
  if (At<uint32_t>(record, 16) != 0 || At<uint32_t>(record, 20) != 0 ||
      At<uint64_t>(record, 24) != At<uint64_t>(record, 32)) {
    bytes.Fail("it is one part of several");
  }
  const Directory result{At<uint64_t>(record, 32), At<uint64_t>(record, 48),
                         At<uint64_t>(record, 40), offset};
  CheckAgrees(bytes, At<uint16_t>(end, 10), kIn64Short, result.entries);
  CheckAgrees(bytes, At<uint32_t>(end, 12), kIn64, result.size);
  CheckAgrees(bytes, At<uint32_t>(end, 16), kIn64, result.offset);
  return result;
}

Directory ReadEnd(const Bytes& bytes) {
  const uint64_t offset = FindEnd(bytes);
  const auto end = bytes.Slice(offset, kEndBytes, "end record");
  const bool has_64 =
      offset >= kLocator64Bytes &&
      bytes.Holds(offset - kLocator64Bytes, kLocator64Signature);
  const auto disk = At<uint16_t>(end, 4);
  const auto first_disk = At<uint16_t>(end, 6);
  const auto is_disk_0 = [&](uint16_t number) {
    return number == 0 || (has_64 && number == kIn64Short);
  };
  if (!is_disk_0(disk) || !is_disk_0(first_disk) ||
      At<uint16_t>(end, 8) != At<uint16_t>(end, 10)) {
    bytes.Fail("it is one part of several");
  }
  const Directory directory =
      has_64 ? ReadEnd64(bytes, offset - kLocator64Bytes, end)
             : Directory{At<uint16_t>(end, 10), At<uint32_t>(end, 16),
                         At<uint32_t>(end, 12), offset};
  if (directory.offset > directory.end ||
      directory.size != directory.end - directory.offset) {
    bytes.Fail(
        "its directory has {} bytes at {}, expected to end at {}, where the "
        "end record begins",
        directory.size, directory.offset, directory.end);
  }
  return directory;
}

// One header of an entry, local or of the directory, without its data.
struct Header {
  uint16_t flags;
  uint16_t method;
  uint64_t stored_size;
  uint64_t size;
  uint64_t local_offset;  // of the directory's headers only
  std::string_view name;
  uint64_t end;  // offset behind the header
};

// Replaces sizes and offset that say so by those of the zip64 extra field,
// which holds exactly the replaced ones, in this order.
void ReadZip64Extra(const Bytes& bytes, std::span<const std::byte> extra,
                    Header& header, std::vector<uint64_t*> replaced) {
  bool found = false;
  while (extra.size() >= 4) {
    const auto id = At<uint16_t>(extra, 0);
    const auto size = At<uint16_t>(extra, 2);
    if (size > extra.size() - 4) {
      bytes.Fail("an extra field of {} is longer than its header",
                 Quote(header.name));
    }
    if (id == kZip64Extra) {
      if (found || size < replaced.size() * sizeof(uint64_t)) {
        bytes.Fail("the zip64 field of {} is bad", Quote(header.name));
      }
      found = true;
      for (size_t i = 0; i < replaced.size(); ++i) {
        *replaced[i] = At<uint64_t>(extra, 4 + i * sizeof(uint64_t));
      }
    }
    extra = extra.subspan(4 + size);
  }
  if (!replaced.empty() && !found) {
    bytes.Fail("{} has no zip64 field", Quote(header.name));
  }
}

Header ReadCentral(const Bytes& bytes, uint64_t offset) {
  const auto fixed = bytes.Slice(offset, kCentralBytes, "a directory entry");
  if (At<uint32_t>(fixed, 0) != kCentralSignature) {
    bytes.Fail("no directory entry at {}", offset);
  }
  const auto name_size = At<uint16_t>(fixed, 28);
  const auto extra_size = At<uint16_t>(fixed, 30);
  const auto comment_size = At<uint16_t>(fixed, 32);
  const auto rest =
      bytes.Slice(offset + kCentralBytes,
                  static_cast<uint64_t>(name_size) + extra_size + comment_size,
                  "name and extra fields");
  Header header{At<uint16_t>(fixed, 8),
                At<uint16_t>(fixed, 10),
                At<uint32_t>(fixed, 20),
                At<uint32_t>(fixed, 24),
                At<uint32_t>(fixed, 42),
                Text(rest.subspan(0, name_size)),
                offset + kCentralBytes + rest.size()};
  std::vector<uint64_t*> in_64;
  for (uint64_t* field :
       {&header.size, &header.stored_size, &header.local_offset}) {
    if (*field == kIn64) in_64.push_back(field);
  }
  ReadZip64Extra(bytes, rest.subspan(name_size, extra_size), header, in_64);
  return header;
}

Header ReadLocal(const Bytes& bytes, uint64_t offset) {
  const auto fixed = bytes.Slice(offset, kLocalBytes, "a local header");
  if (At<uint32_t>(fixed, 0) != kLocalSignature) {
    bytes.Fail("no local header at {}", offset);
  }
  const auto name_size = At<uint16_t>(fixed, 26);
  const auto extra_size = At<uint16_t>(fixed, 28);
  const auto rest = bytes.Slice(offset + kLocalBytes,
                                static_cast<uint64_t>(name_size) + extra_size,
                                "name and extra fields");
  Header header{At<uint16_t>(fixed, 6),
                At<uint16_t>(fixed, 8),
                At<uint32_t>(fixed, 18),
                At<uint32_t>(fixed, 22),
                0,
                Text(rest.subspan(0, name_size)),
                offset + kLocalBytes + rest.size()};
  // Sizes that follow the data are often 0 or "see zip64" here.
  if (header.flags & kSizesFollowData) return header;
  std::vector<uint64_t*> in_64;
  for (uint64_t* field : {&header.size, &header.stored_size}) {
    if (*field == kIn64) in_64.push_back(field);
  }
  ReadZip64Extra(bytes, rest.subspan(name_size, extra_size), header, in_64);
  return header;
}

void CheckAgree(const Bytes& bytes, const Header& central,
                const Header& local) {
  const bool sizes_agree =
      (local.flags & kSizesFollowData) ||
      (local.size == central.size && local.stored_size == central.stored_size);
  if (local.name != central.name || local.method != central.method ||
      (local.flags & kEncrypted) != (central.flags & kEncrypted) ||
      !sizes_agree) {
    bytes.Fail("directory and local header of {} differ", Quote(central.name));
  }
  if (central.method == kMethodStored && !(central.flags & kEncrypted) &&
      central.size != central.stored_size) {
    bytes.Fail("{} is stored, but has two sizes: {} and {}",
               Quote(central.name), central.size, central.stored_size);
  }
}

struct Range {
  uint64_t begin;
  uint64_t end;
  std::string_view name;
};

void CheckDisjoint(const Bytes& bytes, std::vector<Range> ranges) {
  std::ranges::sort(ranges, {}, &Range::begin);
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].begin < ranges[i - 1].end) {
      bytes.Fail("{} and {} overlap", Quote(ranges[i - 1].name),
                 Quote(ranges[i].name));
    }
  }
}

}  // namespace

bool ZipFile::IsZip(const MappedFile& file) {
  const Bytes bytes(file);
  return bytes.Holds(0, kLocalSignature) || bytes.Holds(0, kEndSignature);
}

ZipFile::ZipFile(const MappedFile& file) : file_(&file) {
  const Bytes bytes(file);
  const Directory directory = ReadEnd(bytes);
  std::vector<Range> ranges;
  uint64_t at = directory.offset;
  while (at < directory.end) {
    const Header central = ReadCentral(bytes, at);
    at = central.end;
    const Header local = ReadLocal(bytes, central.local_offset);
    CheckAgree(bytes, central, local);
    if (local.end > directory.offset ||
        central.stored_size > directory.offset - local.end) {
      bytes.Fail("{} has {} bytes at {}, which reach into the directory at {}",
                 Quote(central.name), central.stored_size, local.end,
                 directory.offset);
    }
    ranges.push_back(
        {central.local_offset, local.end + central.stored_size, central.name});
    if (central.name.find('\0') != std::string_view::npos) {
      bytes.Fail("the name {} holds a NUL", Quote(central.name));
    }
    ZipEntry entry;
    entry.stored =
        central.method == kMethodStored && !(central.flags & kEncrypted);
    if (entry.stored) {
      entry.data = file.bytes().subspan(local.end, central.stored_size);
    }
    if (!entries_.emplace(central.name, entry).second) {
      bytes.Fail("{} is there twice", Quote(central.name));
    }
  }
  if (at != directory.end || entries_.size() != directory.entries) {
    bytes.Fail("its directory has {} entries, the end record says {}",
               entries_.size(), directory.entries);
  }
  CheckDisjoint(bytes, std::move(ranges));
}

std::span<const std::byte> ZipFile::Get(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    throw Error("{}: the archive has no {}", file_->path(), Quote(name));
  }
  if (!found->second.stored) {
    throw Error(
        "{}: {} is compressed or encrypted, expected it stored as it is, as "
        "the tool that makes such archives writes it",
        file_->path(), Quote(name));
  }
  return found->second.data;
}

}  // namespace verify_tflite
