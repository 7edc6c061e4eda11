// Which prefill signatures a prompt goes through.
#ifndef VERIFY_TFLITE_CANDIDATE_PREFILL_PLAN_H_
#define VERIFY_TFLITE_CANDIDATE_PREFILL_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace verify_tflite {

struct PrefillChunk {
  size_t prefill = 0;  // index into the lengths
  int64_t begin = 0;   // first position
  int64_t count = 0;   // tokens used; the rest of the signature's rows are pads
};

struct PrefillPlan {
  std::vector<PrefillChunk> chunks;
  // Tokens that no chunk can hold and that go through decode one by one: a
  // padded chunk must not reach past the KV cache, where the runtime would
  // clamp the write position and overwrite good entries.
  int64_t decode_tail = 0;
};

// Plans positions [begin, begin + count) over signatures of the given lengths
// (descending) and a KV cache of kv_length positions: full chunks of the
// largest length, then the smallest that holds the rest, as LiteRT-LM's
// executor does (litert_compiled_model_executor_utils.cc). Never truncates.
PrefillPlan PlanPrefill(std::span<const int64_t> lengths, int64_t kv_length,
                        int64_t begin, int64_t count);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_PREFILL_PLAN_H_
