// Moves floats by what rounding may move them.
#ifndef VERIFY_TFLITE_BASE_LAST_BITS_H_
#define VERIFY_TFLITE_BASE_LAST_BITS_H_

#include <cstdint>
#include <random>
#include <span>

namespace verify_tflite {

// Chance of its own, the same at every run.
class LastBits {
 public:
  // Makes each number the next float up or down. 0 stays, for it is what a mask
  // or a choice leaves out; so do the largest float and what is no number.
  void Move(std::span<float> values);

 private:
  bool Toss();

  std::mt19937_64 chance_;  // the same numbers in every standard library
  uint64_t bits_ = 0;
  int left_ = 0;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_LAST_BITS_H_
