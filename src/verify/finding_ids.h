// The ids of findings. They are stable: scripts and people refer to them. Each
// has a page in docs/findings.md; a test sees to that.
#ifndef VERIFY_TFLITE_VERIFY_FINDING_IDS_H_
#define VERIFY_TFLITE_VERIFY_FINDING_IDS_H_

#include <array>
#include <string_view>

namespace verify_tflite {

inline constexpr auto kFindingIds = std::to_array<std::string_view>({
    // Position
    "rope-base",
    "rope-scaling",
    "rope-missing",
    "rope-interleaved",
    "rope-table",
    "table-too-short",
    "positions-restart",
    "decode-position",
    "mask",
    "sliding-window",
    // Weights and structure
    "wrong-checkpoint",
    "lora-not-merged",
    "weight-differs",
    "transposed-weight",
    "layer-order",
    "layer-skipped",
    "norm-eps",
    "norm-weights",
    "qk-norm",
    "embedding",
    "lm-head",
    "tied-head",
    "soft-capping",
    "qk-swapped",
    "kv-swapped",
    "kv-layout",
    "kv-update",
    "attention-scale",
    "attention-bias-missing",
    "activation",
    "gate-up-swapped",
    "computation-differs",
    // Quantisation and numbers
    "quantisation-collapse",
    "quantisation-rounding",
    "scale",
    "zero-scale",
    "precision-loss",
    "checkpoint-rounded",
    "nan",
    "constant-logits",
    // Signatures and their scales
    "signature-output",
    "kv-scale-differs",
    "mask-range",
    "rope-precision",
    "activation-range",
    // The file against itself
    "prefill-differs",
    "decode-differs",
    "chunking",
    "kv-boundary",
    "state-leak",
    "threads-differ",
    "kernel-differs",
    // What is packed around the model
    "bos-missing",
    "start-token-differs",
    "template-differs",
    "stop-token-differs",
    "tokenizer-differs",
});

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_FINDING_IDS_H_
