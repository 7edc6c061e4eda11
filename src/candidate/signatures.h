// What the signatures of a converted LLM mean: which input is which.
//
// Pure: works on what tflite/interface.h read from the file, calls no runtime.
#ifndef VERIFY_TFLITE_CANDIDATE_SIGNATURES_H_
#define VERIFY_TFLITE_CANDIDATE_SIGNATURES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tflite/interface.h"

namespace verify_tflite {

enum class Role {
  kTokens,
  kEmbeddings,          // of the tokens, from another file
  kPerLayerEmbeddings,  // the same for every layer
  kPositions,
  kMask,
  kLocalMask,  // of the layers with a sliding window
  kParams,
  kKvCache,
  kLogits,
  kUnused,
};

// What to bind to one input or output.
struct Slot {
  Role role = Role::kTokens;
  size_t kv = 0;  // kKvCache: index into LlmSignatures::kv_caches
};

// A prefill or decode signature with every input and output understood.
struct LlmSignature {
  SignatureSpec spec;
  std::string origin;         // "<path>: signature <name>", for messages
  int64_t length = 0;         // tokens it takes of each sequence
  int64_t batch = 1;          // sequences it takes; 1 for prefill
  int64_t logit_rows = 0;     // rows of logits it gives, 0 without logits
  std::vector<Slot> inputs;   // as spec.inputs
  std::vector<Slot> outputs;  // as spec.outputs
};

struct LlmSignatures {
  std::vector<LlmSignature> prefills;  // by descending length, at least one
  LlmSignature decode;
  std::vector<std::string> ignored;   // names of all other signatures
  std::vector<TensorSpec> kv_caches;  // as prefill takes them
  // As decode takes them. The same, or, when decode takes a batch, with
  // decode.batch for 1 as the first dimension.
  std::vector<TensorSpec> decode_kv_caches;
  int64_t num_layers = 0;  // with keys and values
  // Their numbers, ascending. Of a hybrid, whose other layers have a state of
  // another kind, these are not the first ones.
  std::vector<int64_t> kv_layers;
  // Of kv_caches, those that are a state beside keys and values: it replaces
  // the one before and has no entries that could be masked.
  std::vector<size_t> states;
  int64_t kv_length = 0;
  // Slots of the KV caches that are rings (position p lies in slot p modulo
  // this); 0 without such caches.
  int64_t ring_length = 0;
  int64_t vocab_size = 0;
  bool mask_input = false;
  bool local_mask_input = false;
  bool embeddings_input = false;
  bool per_layer_embeddings_input = false;
};

// Whether a prefill signature may get fewer tokens than it takes. Not where
// pads would enter a ring: only a model with `param_tensor` knows how many
// tokens are no pads, and it still writes pads where a chunk is longer than the
// ring (of such a chunk the converter keeps the last `ring_length` rows).
bool MayPad(const LlmSignatures& model, const LlmSignature& prefill);

// Row of a prefill's logits that belongs to the last of `count` tokens, absent
// when the signature does not give it: a single row is that of the last of all
// its tokens, a pad if there are fewer.
std::optional<int64_t> LogitRow(const LlmSignature& signature, int64_t count);

// Index into `kv_caches` of a layer's keys or values ("kv_cache_k_0"), absent
// when the file has no such cache.
std::optional<size_t> FindKvCache(const LlmSignatures& model, KvPart part,
                                  int64_t layer);

// The axis of cache number `kv` that counts positions: as the graphs that write
// it show, else the only one as long as a KV cache or a ring is. Throws Error
// when neither tells. `path` names the file in the message.
size_t SequenceAxisOf(const std::string& path, const LlmSignatures& model,
                      size_t kv);

// Throws Error when there is no decode or no prefill signature, when a
// signature has an input this project does not know, or when the signatures
// contradict themselves or one another. `path` names the file in the message.
// Of several sets of signatures for different cache lengths ("decode_cache_256"
// and the like) the one for the longest cache is taken.
LlmSignatures Interpret(const std::string& path,
                        const std::vector<SignatureSpec>& signatures);

// A signature that turns tokens into what another file's `embeddings` or
// `per_layer_embeddings` takes.
struct EmbedderSignature {
  SignatureSpec spec;
  std::string origin;
  int64_t length = 0;  // tokens it takes
};

// Signatures with one input of tokens and one FLOAT32 output, by descending
// length. Throws Error when there is none.
std::vector<EmbedderSignature> InterpretEmbedder(
    const std::string& path, const std::vector<SignatureSpec>& signatures);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_SIGNATURES_H_
