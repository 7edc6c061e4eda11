// Says how integers stand for numbers in a tensor with one scale.
#ifndef VERIFY_TFLITE_BASE_TENSOR_SCALE_H_
#define VERIFY_TFLITE_BASE_TENSOR_SCALE_H_

#include <cstdint>

namespace verify_tflite {

// value = scale * (stored - zero_point)
struct TensorScale {
  float scale = 1;
  int64_t zero_point = 0;
  bool operator==(const TensorScale&) const = default;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_TENSOR_SCALE_H_
