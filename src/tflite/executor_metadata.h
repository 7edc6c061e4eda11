// SPDX-License-Identifier: Apache-2.0
// What a .litertlm bundle tells LiteRT-LM of the model's state
// (runtime/proto/executor_metadata.proto).
#ifndef VERIFY_TFLITE_TFLITE_EXECUTOR_METADATA_H_
#define VERIFY_TFLITE_TFLITE_EXECUTOR_METADATA_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tflite/interface.h"

namespace verify_tflite {

// One tensor that keeps something from one call to the next: what it is called
// as input and as output of each kind of signature.
struct StateBuffer {
  std::string prefill_input;
  std::string prefill_output;
  std::string decode_input;
  std::string decode_output;
  // "global key cache", "local value cache", "linear attention", …; "type 42"
  // for a number that is not known.
  std::string type;
};

struct ExecutorMetadata {
  int64_t max_history_size = 0;  // 0: not given
  std::vector<StateBuffer> state_buffers;
  std::string mask;                 // "causal", …; empty: not given
  std::string local_mask;           // of layers with a window
  int64_t sliding_window_size = 0;  // 0: not given
};

// Throws Error, whose message begins with `what`, for a damaged one.
ExecutorMetadata ParseExecutorMetadata(std::string_view proto,
                                       const std::string& what);

// Returns where the metadata and the signatures disagree about what is state, a
// sentence each: a name that decode or a prefill signature lacks, a KV cache or
// another state of decode that the metadata does not name, and one that it has
// as state of another kind. Without state buffers it
// says nothing about them.
std::vector<std::string> CompareState(const ExecutorMetadata& metadata,
                                      const SignatureSpec& decode,
                                      std::span<const SignatureSpec> prefills);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TFLITE_EXECUTOR_METADATA_H_
