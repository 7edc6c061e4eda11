// What a KV cache holds, whatever its layout and element type.
//
// Pure.
#ifndef VERIFY_TFLITE_CANDIDATE_KV_ROWS_H_
#define VERIFY_TFLITE_CANDIDATE_KV_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "candidate/signatures.h"

namespace verify_tflite {

// Keys (after RoPE) and values of one layer, a row for each position from
// `first` on. `first` is 0 but for rings that have wrapped round.
struct KvRows {
  int64_t first = 0;
  int64_t length = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  std::vector<float> keys = {};  // [length, heads, head_dim]
  std::vector<float> values = {};
};

// What a state beside keys and values holds, a row for each position, the
// oldest first: of a short convolution.
struct StateRows {
  int64_t rows = 0;
  int64_t width = 0;
  std::vector<float> values = {};  // [rows, width]
};

// Of [1, width, rows], as converters make it. Throws Error for another shape,
// or another type than FLOAT32. `bytes` are as many as ByteSize(state) says.
StateRows ReadState(const std::string& path, const TensorSpec& state,
                    std::span<const std::byte> bytes);

// Distances are in elements.
struct KvLayout {
  int64_t slots = 0;  // positions it holds; position p lies in slot p % slots
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t slot_stride = 0;
  int64_t head_stride = 0;
  int64_t element_stride = 0;
};

// Converters make [1, slots, heads, head_dim], [1, heads, slots, head_dim] and
// [1, heads, head_dim, slots]: heads come before the elements of a head in all
// of them. Throws Error unless `cache` has such a shape. `path` names the file
// in the message, here and below.
KvLayout LayoutOf(const std::string& path, const TensorSpec& cache,
                  size_t sequence_axis);

// Positions [begin, end) of a cache, [end - begin, heads, head_dim]. FLOAT32,
// FLOAT16, and INT8 and INT16 with TensorSpec::scale; throws Error for other types.
// Expects 0 <= begin <= end, end - begin <= slots and as many `bytes` as
// ByteSize(cache) says.
std::vector<float> ReadPositions(const std::string& path,
                                 const TensorSpec& cache,
                                 const KvLayout& layout,
                                 std::span<const std::byte> bytes,
                                 int64_t begin, int64_t end);

// Positions [filled, end) of a cache become copies of [0, filled), in order,
// again and again. Expects 0 < filled <= end <= slots, elements of whole bytes,
// and as many `bytes` as ByteSize(cache) says.
void RepeatPositions(const TensorSpec& cache, size_t sequence_axis,
                     std::span<std::byte> bytes, int64_t filled, int64_t end);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_KV_ROWS_H_
