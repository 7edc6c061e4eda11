// What the signatures of a converted LLM mean: which input is which.
//
// Pure: works on what graph.h read from the file, calls no runtime.
#ifndef VERIFY_TFLITE_CANDIDATE_SIGNATURES_H_
#define VERIFY_TFLITE_CANDIDATE_SIGNATURES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "candidate/litert_abi.h"

namespace verify_tflite {

// An input or output of a signature, as the file declares it.
struct TensorSpec {
  std::string name;
  LiteRtElementType type = kLiteRtElementTypeNone;
  std::vector<int64_t> dims = {};
  // KV cache outputs: the axis that counts positions, as the graph that writes
  // the cache shows it. Absent when the graph does not show it.
  std::optional<size_t> sequence_axis = std::nullopt;
};

// Throws Error unless every dimension is positive, the type's size is known
// and the tensor is smaller than a terabyte.
int64_t ByteSize(const TensorSpec& tensor);
// "FLOAT32 [1, 8, 2, 16]"
std::string Describe(const TensorSpec& tensor);

struct SignatureSpec {
  std::string name;
  size_t index = 0;  // in the file
  std::vector<TensorSpec> inputs = {};
  std::vector<TensorSpec> outputs = {};
};

enum class Role { kTokens, kPositions, kMask, kKvCache, kLogits, kUnused };

// What to bind to one input or output.
struct Slot {
  Role role = Role::kTokens;
  size_t kv = 0;  // kKvCache: index into LlmSignatures::kv_caches
};

// A prefill or decode signature with every input and output understood.
struct LlmSignature {
  SignatureSpec spec;
  std::string origin;         // "<path>: signature <name>", for messages
  int64_t length = 0;         // tokens it takes
  int64_t logit_rows = 0;     // rows of logits it gives, 0 without logits
  std::vector<Slot> inputs;   // as spec.inputs
  std::vector<Slot> outputs;  // as spec.outputs
};

struct LlmSignatures {
  std::vector<LlmSignature> prefills;  // by descending length, at least one
  LlmSignature decode;
  std::vector<std::string> ignored;  // names of all other signatures
  std::vector<TensorSpec> kv_caches;
  int64_t num_layers = 0;
  int64_t kv_length = 0;
  int64_t vocab_size = 0;
  bool mask_input = false;
};

// Row of a prefill's logits that belongs to the last of `count` tokens, absent
// when the signature does not give it: a single row is that of the last of all
// its tokens, a pad if there are fewer.
std::optional<int64_t> LogitRow(const LlmSignature& signature, int64_t count);

// Throws Error when there is no decode or no prefill signature, when a
// signature has an input this project does not know, or when the signatures
// contradict themselves or one another. `path` names the file in the message.
LlmSignatures Interpret(const std::string& path,
                        const std::vector<SignatureSpec>& signatures);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_SIGNATURES_H_
