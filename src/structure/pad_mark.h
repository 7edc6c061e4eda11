// SPDX-License-Identifier: Apache-2.0
// Which of a graph's thresholds (thresholds.h) tell pads from text.
#ifndef VERIFY_TFLITE_STRUCTURE_PAD_MARK_H_
#define VERIFY_TFLITE_STRUCTURE_PAD_MARK_H_

#include <cstdint>
#include <optional>
#include <set>

#include "structure/thresholds.h"
#include "tflite/file.h"

namespace verify_tflite {

class PadMark {
 public:
  // `pad_token` is ModelInfo's.
  PadMark(const tflite::Graph& graph, std::optional<int32_t> pad_token);

  // Whether the operator compares tokens with the pad token, or makes a number
  // of what nothing but that comparison gave: how many tokens are no pads.
  // Comparisons see what both are for text, and the self-check for pads.
  bool IsPart(const Threshold& threshold) const {
    return ops_.contains(threshold.op);
  }

 private:
  std::set<int32_t> ops_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_PAD_MARK_H_
