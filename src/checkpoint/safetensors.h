// One .safetensors file, mapped, with its tensors viewed in place.
// Format and checks: docs/safetensors_format.md.
#ifndef VERIFY_TFLITE_CHECKPOINT_SAFETENSORS_H_
#define VERIFY_TFLITE_CHECKPOINT_SAFETENSORS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/mapped_file.h"
#include "checkpoint/tensor.h"

namespace verify_tflite {

class SafetensorsFile {
 public:
  // Maps `path` and reads its header. Every size and offset is checked before
  // it is used. Throws Error for a truncated file, a header that lies (offsets
  // out of the file, overlapping, not matching shape x dtype, holes, a name
  // given twice) and for bad JSON.
  static SafetensorsFile Open(const std::string& path);

  // The F64, F32, F16 and BF16 tensors by name. Views stay valid as long as
  // this object (moves included).
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

  // Tensors of every other dtype: name -> dtype as the file spells it. They are
  // checked like the others; only whoever needs one has to refuse it (old
  // checkpoints carry integer buffers that nothing reads).
  const std::map<std::string, std::string>& other_tensors() const {
    return other_tensors_;
  }

  const MappedFile& file() const { return *file_; }

 private:
  explicit SafetensorsFile(std::unique_ptr<const MappedFile> file)
      : file_(std::move(file)) {}

  // On the heap, for every TensorView points to it.
  std::unique_ptr<const MappedFile> file_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> other_tensors_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_SAFETENSORS_H_
