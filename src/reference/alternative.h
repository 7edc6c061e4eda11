// A decoder that differs on purpose from the one the checkpoint describes: to
// see whether a candidate computes that one instead.
#ifndef VERIFY_TFLITE_REFERENCE_ALTERNATIVE_H_
#define VERIFY_TFLITE_REFERENCE_ALTERNATIVE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "checkpoint/model_config.h"

namespace verify_tflite {

// What a query sees beside or instead of the tokens up to its own.
enum class MaskFault {
  kNone,        // causal
  kEmptySlots,  // also the slots of the KV cache behind it, which hold zeros
  kNextSlot,    // also the one slot behind it, which holds zeros
  kNotItself,   // only the tokens before it; the first token itself
};

struct Alternative {
  // Settings that the computation takes from here. Those that tensors have
  // their shapes by, and the number of layers, are the checkpoint's own; a bias
  // or a norm of queries and keys that is switched off is not applied.
  std::optional<ModelConfig> config = {};
  // Which of the checkpoint's layers stand where: {0, 2, 1, 3} swaps two, {0,
  // 2, 3} leaves one out. Empty: as they are.
  std::vector<int64_t> layers = {};
  bool tied_head = false;        // the embedding serves as LM head
  bool gate_up_swapped = false;  // in every layer
  // Query head h takes KV head h mod num_kv_heads, not h / group.
  bool heads_interleaved = false;
  MaskFault mask = MaskFault::kNone;
  int64_t kv_length = 0;  // slots of the candidate's KV cache
  // With ModelConfig::laurel_rank: the normed input is added alone.
  bool laurel_lost = false;
  // Per-layer embeddings are multiplied by 1.
  bool per_layer_unscaled = false;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_ALTERNATIVE_H_
