// Operators that act beyond a threshold alone.
//
// A clamp at 50 changes nothing as long as every number that a run meets is
// below it, so no comparison of numbers finds it: it shows on the phone, at a
// prompt that nobody tried. It is found by its presence instead. The decoders
// that the reference knows have no such operator between their tokens and their
// logits but where their activation bends, and a few more (IsOfModel).
#ifndef VERIFY_TFLITE_STRUCTURE_THRESHOLDS_H_
#define VERIFY_TFLITE_STRUCTURE_THRESHOLDS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "checkpoint/model_config.h"
#include "tflite/file.h"

namespace verify_tflite {

struct Threshold {
  int32_t op = -1;           // of the graph
  std::optional<double> at;  // where it is the same for all its numbers

  // Beyond it a number does not fit into float16: the file was made for
  // accelerators that compute in it.
  bool is_half_range() const;
};

// Whether the model's activation bends there, which is at 0 or as good as: what
// comes in has either sign in every run, so that comparisons see both sides.
bool IsOfActivation(const Threshold& threshold, Activation activation);
// Whether it is the model's own: of its activation, of what makes it sparse, or
// of the least size of a stream.
bool IsOfModel(const Threshold& threshold, const ModelConfig& config);

// Operators among `needed` (ascending), whose values depend on
// more than positions and masks and which are no smooth functions and move no
// numbers about: minima and maxima, comparisons, rectifiers (as activations of
// other operators, too), rounding, control flow, whatever is not known here,
// and composites that hold one of them. Left out are thresholds that no float32
// is beyond.
std::vector<Threshold> FindThresholds(const tflite::File& file,
                                      const tflite::Graph& graph,
                                      std::span<const int32_t> needed);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_THRESHOLDS_H_
