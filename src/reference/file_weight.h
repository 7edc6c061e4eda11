// Weights of a model file in place of the checkpoint's.
#ifndef VERIFY_TFLITE_REFERENCE_FILE_WEIGHT_H_
#define VERIFY_TFLITE_REFERENCE_FILE_WEIGHT_H_

#include <map>
#include <string>
#include <vector>

#include "base/rotation.h"
#include "checkpoint/tensor.h"

namespace verify_tflite {

struct FileWeight {
  TensorView view;  // shape as the checkpoint's tensor of that name
  // The runtime quantises the product's input to int8, each row on its own.
  bool quantised_input = false;
  // Not null: `view` has rotated rows. The runtime multiplies each block of the
  // input with the rotation first, and quantises then.
  const Rotation* rotation = nullptr;
  // Not null, [inputs]: the runtime multiplies the input with it, in float32
  // and before the rotation; the inverse is in the columns of `view`.
  const std::vector<float>* input_scale = nullptr;
};

// By the checkpoint's names. Of a tied model, "lm_head.weight" (or what the
// family calls it) is the head's, as the file stores it.
using FileWeights = std::map<std::string, FileWeight>;

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_FILE_WEIGHT_H_
