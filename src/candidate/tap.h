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
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/tensor_scale.h"

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
  std::string output;  // the signature's name for it, if it is an output
  // Of a fixed shape and no output yet; FLOAT32, or INT8 and INT16 that one
  // scale stands for.
  bool can_tap = false;
  std::optional<TensorScale> scale;  // of the latter
};

// All of all signatures, in the order of their operators. `what` begins the
// message of every Error, here and below: the file is damaged.
std::vector<GraphTensor> ListTensors(std::span<const std::byte> model,
                                     const std::string& what);

// Asked for the tensors with can_tap.
using TapFilter = std::function<bool(const GraphTensor&)>;

// What turns a model into one with taps: its bytes [0, moved_begin), `tail` at
// tail_begin, and its bytes from moved_begin on, `shift` further behind than
// they were; with `words` and `offsets` overwritten.
//
// Offsets between parts of a flatbuffer have 31 bits. In a larger file the
// flatbuffer itself is small, and the data of its buffers lie behind it, where
// Buffer.offset, of 64 bits, has their place in the whole file (schema.fbs;
// ai_edge_quantizer/model_modifier.py writes such files, too). The tail then
// goes between the two.
struct TapPatch {
  // Those taken; `output` is their signature's new name for them.
  std::vector<GraphTensor> taps;
  // 32-bit words to overwrite: offset in the model, value. All lie before
  // moved_begin.
  std::vector<std::pair<size_t, uint32_t>> words;
  // Likewise 64-bit ones: places of data that move.
  std::vector<std::pair<size_t, uint64_t>> offsets;
  size_t tail_begin = 0;  // the model's end, or moved_begin, rounded up
  std::vector<std::byte> tail;
  // The model's size where nothing moves, and then shift is 0.
  size_t moved_begin = 0;
  // A multiple of kTapShiftUnit, and so large that the tail ends before the
  // first unit that has a byte which moves, wherever units begin.
  size_t shift = 0;
};

// No system has larger pages.
inline constexpr size_t kTapShiftUnit = size_t{64} << 10;

// What the runtime's verifier accepts of offsets (FLATBUFFERS_MAX_BUFFER_SIZE).
inline constexpr size_t kFlatbufferLimit = 0x7FFFFFFF;

// Data move only where the tail would not end before `limit` otherwise; tests
// set it lower, so that small files take the way of large ones. Throws Error,
// too, where the flatbuffer without its buffers' data does not leave room for
// the tail before `limit`.
TapPatch PlanTaps(std::span<const std::byte> model, const std::string& what,
                  const TapFilter& filter, size_t limit = kFlatbufferLimit);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_TAP_H_
