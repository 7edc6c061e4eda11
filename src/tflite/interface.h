// SPDX-License-Identifier: Apache-2.0
// What a file says of its interface: signatures, their inputs and outputs, and
// what converters call them.
#ifndef VERIFY_TFLITE_TFLITE_INTERFACE_H_
#define VERIFY_TFLITE_TFLITE_INTERFACE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/number.h"
#include "base/tensor_scale.h"
#include "tflite/file.h"

namespace verify_tflite {

// An input or output of a signature, as the file declares it.
struct TensorSpec {
  std::string name;
  ElementType type = ElementType::kUnknown;
  std::vector<int64_t> dims = {};  // -1: of any size
  // KV cache outputs: the axis that counts positions, as the graph that writes
  // the cache shows it. Absent when the graph does not show it.
  std::optional<size_t> sequence_axis = std::nullopt;
  // Of a tensor quantised with one scale.
  std::optional<TensorScale> scale = std::nullopt;
  size_t index = 0;  // of the tensor, in its graph
};

// Throws Error unless every dimension is positive, the type's size is known
// and the tensor is smaller than a terabyte.
int64_t ByteSize(const TensorSpec& tensor);
// Returns whether it is INT8 or INT16 with one scale that is a positive number.
bool IsQuantised(const TensorSpec& tensor);
// Returns "FLOAT32 [1, 8, 2, 16]", with the name before it.
std::string Describe(const TensorSpec& tensor);

struct SignatureSpec {
  std::string name;
  size_t index = 0;  // in the file
  std::vector<TensorSpec> inputs = {};
  std::vector<TensorSpec> outputs = {};
  // Names of custom operators in its graph, each once.
  std::vector<std::string> custom_ops = {};
  // What its graph takes for pads, which change no state beside keys and
  // values: this token (a NOT_EQUAL of the tokens), or positions that are not
  // larger than those before them (a GREATER of the positions). Neither where
  // no such state depends on it.
  std::optional<int32_t> pad_token = std::nullopt;
  bool repeated_positions_are_pads = false;
};

// Returns what the file declares of a tensor, under the name `name`.
TensorSpec SpecOf(const tflite::Graph& graph, int32_t tensor,
                  const std::string& name);

// Returns all signatures; their inputs and outputs in the order of the graphs',
// which is the order in which the runtime takes them. One that no name stands
// for has its tensor's own. Throws Error when a signature does not name as many
// as its graph has, or one has no shape that the runtime takes; `path` names
// the file in the message.
std::vector<SignatureSpec> ReadSignatures(const std::string& path,
                                          const tflite::File& file);

// Returns the token that `op`, a NOT_EQUAL, compares each of the tensor `tokens`
// with; nothing where it is another operator or no single number.
std::optional<int32_t> ComparedToken(const tflite::Graph& graph,
                                     const tflite::Op& op, int32_t tokens);

// kConvState: the last positions of what a short convolution is of. It replaces
// the state before it and has no entry for each position.
enum class KvPart { kKeys, kValues, kConvState };

struct KvName {
  KvPart part = KvPart::kKeys;
  int64_t layer = 0;
  bool operator==(const KvName&) const = default;
};

// Parses the name of an input or output of a signature ("kv_cache_k_0";
// "v_cache_3" in files of other exporters). Returns nothing where it is no KV
// cache.
std::optional<KvName> ParseKvName(std::string_view name);

// Returns whether a signature is "decode", or "decode_cache_256" of files with
// several cache lengths.
bool IsDecode(std::string_view signature);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TFLITE_INTERFACE_H_
