// SPDX-License-Identifier: Apache-2.0
// A model in memory with a TapPatch applied.
#ifndef VERIFY_TFLITE_TFLITE_TAP_IMAGE_H_
#define VERIFY_TFLITE_TFLITE_TAP_IMAGE_H_

#include <cstddef>
#include <span>
#include <string>

#include "tflite/taps.h"

namespace verify_tflite::tflite {

// The model's pages are mapped, not read: only those that are patched take
// memory of their own.
class TapImage {
 public:
  // The model is `size` bytes at `offset` of the file. Throws Error when the
  // file has become shorter or cannot be mapped.
  TapImage(const std::string& path, size_t offset, size_t size,
           const TapPatch& patch);
  ~TapImage();
  TapImage(const TapImage&) = delete;
  TapImage& operator=(const TapImage&) = delete;

  std::span<const std::byte> bytes() const { return model_; }

 private:
  void* address_ = nullptr;
  size_t mapped_ = 0;
  std::span<std::byte> model_;
};

}  // namespace verify_tflite::tflite

#endif  // VERIFY_TFLITE_TFLITE_TAP_IMAGE_H_
