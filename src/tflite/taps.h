// SPDX-License-Identifier: Apache-2.0
// Taps: makes inner tensors of a .tflite outputs of its signatures, so that
// running a signature yields them, too. Files stay as they are: what changes is
// a handful of bytes of a private copy.
#ifndef VERIFY_TFLITE_TFLITE_TAPS_H_
#define VERIFY_TFLITE_TFLITE_TAPS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tflite/file.h"

namespace verify_tflite::tflite {

// An inner tensor that is an output, too. What is inside a composite
// (odml.rms_norm, odml.scaled_dot_product_attention) cannot be one, its outputs
// can.
struct Tap {
  std::string signature;
  int32_t tensor = 0;  // in the signature's graph
  std::string output;  // the signature's new name for it
};

// Returns whether an operator computes the tensor, its shape is fixed, it is no
// output of the signature yet, and it is FLOAT32, or INT8 or INT16 that one
// scale stands for.
bool CanTap(const Graph& graph, const Signature& signature, int32_t tensor);

// Asked for the tensors that can be tapped, by signature and number.
using TapFilter =
    std::function<bool(const std::string& signature, int32_t tensor)>;

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
  std::vector<Tap> taps;  // by signature, in the order of their operators
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
TapPatch PlanTaps(const File& file, const TapFilter& filter,
                  size_t limit = kFlatbufferLimit);

// Some operators of a signature's graph. Tensors and operators are numbers in
// that graph.
struct GraphPart {
  std::string signature;
  std::vector<int32_t> ops;      // ascending; all that `outputs` need
  std::vector<int32_t> inputs;   // of the signature's own
  std::vector<int32_t> outputs;  // each computed by one of `ops`, once
};

// Returns what turns a model into one whose signature is that part: lists of
// operators, inputs and outputs are shortened where they stand, so that nothing
// grows and files of any size will do. Throws Error where the part has more
// outputs than the signature.
TapPatch PlanPart(const File& file, const GraphPart& part);
// Returns how many outputs a part of the signature may have.
size_t MaxOutputs(const File& file, const std::string& signature);

}  // namespace verify_tflite::tflite

#endif  // VERIFY_TFLITE_TFLITE_TAPS_H_
