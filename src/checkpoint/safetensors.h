// One .safetensors file, mapped, with its tensors viewed in place.
// Format: docs/safetensors_format.md.
#ifndef VERIFY_TFLITE_CHECKPOINT_SAFETENSORS_H_
#define VERIFY_TFLITE_CHECKPOINT_SAFETENSORS_H_

#include <map>
#include <string>

#include "base/mapped_file.h"
#include "checkpoint/tensor.h"

namespace verify_tflite {

class SafetensorsFile {
 public:
  // Maps `path` and reads its header. Every size and offset is checked before
  // it is used. Throws Error for a truncated file, a header that lies (offsets
  // out of the file, overlapping, not matching shape x dtype, holes), bad JSON.
  static SafetensorsFile Open(const std::string& path);

  // By name. Views stay valid as long as this object (moves included).
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const MappedFile& file() const { return file_; }

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}

  MappedFile file_;
  std::map<std::string, TensorView> tensors_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_SAFETENSORS_H_
