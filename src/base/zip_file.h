// Reads the directory of a zip archive; entries are viewed in place.
//
// Sources: PKWARE's APPNOTE.TXT 6.3 (sections 4.3 and 4.5.3). Bundles of models
// (torch.save, .task) store their entries uncompressed so that they can be
// mapped; nothing here decompresses.
#ifndef VERIFY_TFLITE_BASE_ZIP_FILE_H_
#define VERIFY_TFLITE_BASE_ZIP_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/mapped_file.h"

namespace verify_tflite {

struct ZipEntry {
  // The entry's bytes as they lie in the file; empty unless `stored`.
  std::span<const std::byte> data;
  bool stored = false;  // false: compressed or encrypted
};

// Movable. `file` must outlive it: every span lies in its mapping.
class ZipFile {
 public:
  // Returns whether the file begins as archives do. Anything may follow.
  static bool IsZip(const MappedFile& file);

  // Reads the central directory (zip64 included) and every local header. Throws
  // Error unless each entry lies in the file before the directory, no two
  // entries share a byte, no name is given twice or holds a NUL, local header
  // and directory agree on name, method and size, and the end record closes the
  // file. Bytes between entries are skipped. Archives in several parts, or
  // moved by bytes put before them, are refused. Checksums are not verified,
  // because that would read the whole file.
  explicit ZipFile(const MappedFile& file);

  // Returns the entries by name as the archive spells it: "archive/data.pkl".
  // Names come from the file: never open a path with one. Directories are
  // entries that end in '/'.
  const std::map<std::string, ZipEntry, std::less<>>& entries() const {
    return entries_;
  }
  bool Has(std::string_view name) const { return entries_.contains(name); }

  // Returns the bytes of a stored entry. Throws Error when there is no such
  // entry or it is compressed or encrypted.
  std::span<const std::byte> Get(std::string_view name) const;

 private:
  const MappedFile* file_;
  std::map<std::string, ZipEntry, std::less<>> entries_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_ZIP_FILE_H_
