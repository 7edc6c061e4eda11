// Weights of a checkpoint, read piece by piece.
#ifndef VERIFY_TFLITE_REFERENCE_WEIGHT_READER_H_
#define VERIFY_TFLITE_REFERENCE_WEIGHT_READER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace verify_tflite {

// Reads with pread and not through the mapping. A pass touches every weight
// once, so pages of a mapping would be mapped and dropped again for each pass:
// for 269 MB in the page cache that took 31 ms, pread into a block that stays
// in the processor's cache 17 ms. Nor do weights count as the program's memory,
// and a file that is cut short meanwhile is an Error, not a signal.
//
// Safe to use from several threads.
class WeightReader {
 public:
  // Opens the files of `checkpoint`, which must outlive this, once more. Throws
  // Error when one is gone or has another size than when it was mapped.
  explicit WeightReader(const Checkpoint& checkpoint);
  ~WeightReader();
  WeightReader(const WeightReader&) = delete;
  WeightReader& operator=(const WeightReader&) = delete;

  // `count` elements from element `first` on, as they are stored. `out` is
  // aligned for float32. Throws Error when they cannot be read.
  void Read(const TensorView& tensor, int64_t first, int64_t count,
            std::byte* out) const;

  // The same as float32.
  void ReadFloats(const TensorView& tensor, int64_t first, int64_t count,
                  float* out) const;

  // Lets the kernel start reading the tensor from disk. A hint only.
  void WillNeed(const TensorView& tensor) const;

 private:
  std::map<const MappedFile*, int> descriptors_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_WEIGHT_READER_H_
