// One file of torch.save (pytorch_model.bin, .pt, .pth), mapped, with the
// tensors of its state dict. Format and checks: docs/pytorch_pickle_format.md.
#ifndef VERIFY_TFLITE_CHECKPOINT_PYTORCH_FILE_H_
#define VERIFY_TFLITE_CHECKPOINT_PYTORCH_FILE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "checkpoint/tensor.h"

namespace verify_tflite {

class PytorchFile {
 public:
  // Maps `path` and reads its pickle without running anything of it. The state
  // dict is the saved dict itself, or the one under "model", "state_dict" or
  // "model_state_dict", whichever holds float tensors. Throws Error for formats
  // other than torch.save's zip (each by name, with the way out), for a pickle
  // that asks for anything tensors do not need, for tensors that reach out of
  // their storage, and when more than one dict could be meant.
  static PytorchFile Open(const std::string& path);

  // As SafetensorsFile: the F64, F32, F16 and BF16 tensors, and name -> dtype
  // of all others. Views stay valid as long as this object (moves included).
  //
  // A dense tensor is viewed in place. One with other strides (transposed, a
  // slice, expanded) is copied densely into memory at Open; more than
  // kMaxCopiedBytes of them in a file are an Error.
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& other_tensors() const {
    return other_tensors_;
  }

  const MappedFile& file() const { return *file_; }

  static constexpr uint64_t kMaxCopiedBytes = uint64_t{1} << 30;

 private:
  explicit PytorchFile(std::unique_ptr<const MappedFile> file)
      : file_(std::move(file)) {}

  // On the heap, for every TensorView points to it.
  std::unique_ptr<const MappedFile> file_;
  std::vector<std::unique_ptr<std::byte[]>> copies_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> other_tensors_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_PYTORCH_FILE_H_
