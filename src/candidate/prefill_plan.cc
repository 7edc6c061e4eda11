#include "candidate/prefill_plan.h"

#include "base/error.h"

namespace verify_tflite {
namespace {

// The chunk for `rest` tokens from `begin` on; count 0 when none fits.
PrefillChunk NextChunk(std::span<const int64_t> lengths, int64_t kv_length,
                       int64_t begin, int64_t rest) {
  PrefillChunk chunk{.prefill = 0, .begin = begin, .count = 0};
  // Descending, so that the last one that holds the rest is the smallest.
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] > kv_length - begin) continue;
    if (lengths[i] >= rest) {
      chunk.prefill = i;
      chunk.count = rest;
    } else if (chunk.count == 0) {
      chunk.prefill = i;
      chunk.count = lengths[i];
    }
  }
  return chunk;
}

}  // namespace

PrefillPlan PlanPrefill(std::span<const int64_t> lengths, int64_t kv_length,
                        int64_t begin, int64_t count) {
  if (begin < 0 || count < 0 || begin > kv_length ||
      count > kv_length - begin) {
    throw Error(
        "{} tokens from position {} on do not fit the model's KV cache of {} "
        "positions; use a shorter prompt or convert the model with a longer "
        "KV cache",
        count, begin, kv_length);
  }
  PrefillPlan plan;
  while (count > 0) {
    const PrefillChunk chunk = NextChunk(lengths, kv_length, begin, count);
    if (chunk.count == 0) break;
    plan.chunks.push_back(chunk);
    begin += chunk.count;
    count -= chunk.count;
  }
  plan.decode_tail = count;
  return plan;
}

}  // namespace verify_tflite
