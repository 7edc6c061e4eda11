// Makes zip archives for tests, which can set every field that a reader checks.
#ifndef VERIFY_TFLITE_BASE_TESTING_ZIP_H_
#define VERIFY_TFLITE_BASE_TESTING_ZIP_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace verify_tflite {

struct ZipPart {
  std::string name;
  std::string data;
  uint16_t method = 0;
  uint16_t flags = 0;
};

struct ZipOptions {
  bool zip64 = false;         // sizes and offsets in zip64 fields
  bool sizes_follow = false;  // as torch.save: data descriptors
  size_t alignment = 1;       // of the data, by padding in local headers
  std::string comment;
};

std::string MakeZip(const std::vector<ZipPart>& parts,
                    const ZipOptions& options = {});

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_TESTING_ZIP_H_
