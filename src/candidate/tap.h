// Taps: makes inner tensors of a .tflite outputs of its signatures, so that
// running a signature yields them, too. Files stay as they are: what changes is
// a handful of bytes of a private copy.
//
// Pure.
#ifndef VERIFY_TFLITE_CANDIDATE_TAP_H_
#define VERIFY_TFLITE_CANDIDATE_TAP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace verify_tflite {

// A tensor that an operator of a signature's graph computes. What is inside a
// composite (odml.rms_norm, odml.scaled_dot_product_attention) is not listed,
// only its outputs are.
struct GraphTensor {
  std::string signature;
  int32_t index = 0;  // in its graph: the one thing that is unique
  // Holds the path of the PyTorch module, but neither must be unique nor right:
  // where the converter merges equal subexpressions or weights' transpositions,
  // one module's name goes to another's tensor (k_proj named q_proj, layer 1
  // named layer 0). `op`, `order` and `inputs` are what the graph computes.
  std::string name;
  std::string op;               // "FULLY_CONNECTED"; of composites their name
  size_t order = 0;             // of its operator in the graph
  std::vector<int32_t> inputs;  // of its operator; -1 for one left out
  std::string type;             // "FLOAT32", …
  std::vector<int64_t> shape;
  std::string output;    // the signature's name for it, if it is an output
  bool can_tap = false;  // FLOAT32 of a fixed shape and no output yet
};

// All of all signatures, in the order of their operators. `what` begins the
// message of every Error, here and below: the file is damaged.
std::vector<GraphTensor> ListTensors(std::span<const std::byte> model,
                                     const std::string& what);

// Asked for the tensors with can_tap.
using TapFilter = std::function<bool(const GraphTensor&)>;

// What turns a model into one with taps.
struct TapPatch {
  // Those taken; `output` is their signature's new name for them.
  std::vector<GraphTensor> taps;
  // 32-bit words to overwrite: offset in the model, value.
  std::vector<std::pair<size_t, uint32_t>> words;
  size_t tail_begin = 0;  // behind the model's end
  std::vector<std::byte> tail;
};

// Throws Error for a model of 2 GB or more, too: a flatbuffer's offsets do not
// reach further.
TapPatch PlanTaps(std::span<const std::byte> model, const std::string& what,
                  const TapFilter& filter);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_TAP_H_
