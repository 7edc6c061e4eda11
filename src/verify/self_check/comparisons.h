// The comparisons of the self-check: the same tokens on two ways through the
// model. docs/self_check.md.
#ifndef VERIFY_TFLITE_VERIFY_SELF_CHECK_COMPARISONS_H_
#define VERIFY_TFLITE_VERIFY_SELF_CHECK_COMPARISONS_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "verify/self_check/feeder.h"
#include "verify/self_check/tally.h"

namespace verify_tflite {

// What prefill in one way, or through one signature, was compared with.
struct PrefillTally {
  Tally tally;
  std::vector<int64_t> left_out;     // tokens, to save time
  bool against_decode = true;        // all of them
  bool differs_from_decode = false;  // some of them
};

// Returns the numbers of tokens after which decode alone is compared with
// something.
std::set<int64_t> WantedRows(const Feeder& feeder);

// Compares a signature with decode alone, or with a shorter signature where
// decode alone did not come that far: at its first number of tokens, or at all
// others as far as they fit into the budget.
void ComparePrefill(Feeder& feeder, const SelfCheckLimits& limits,
                    size_t prefill, bool first, PrefillTally& tally);
Check PrefillCheck(const Feeder& feeder, const SelfCheckLimits& limits,
                   size_t prefill, const PrefillTally& tally);

// Compares a chunk of each signature after a first token, one token past the
// longest, and the chunks that production makes of a longer prompt.
PrefillTally CompareChunks(Feeder& feeder);
Check ChunksCheck(const Feeder& feeder, const SelfCheckLimits& limits,
                  const PrefillTally& tally);

// Compares one token below, at and past a boundary of attention: prefilled,
// against decode of the last tokens before it.
Check CheckBoundary(Feeder& feeder, const SelfCheckLimits& limits,
                    const std::string& name, int64_t boundary);

struct StateLeak {
  Check check;
  // A used KV cache gives other logits, a fresh one does not.
  bool stale_entries_count = false;
};
StateLeak CheckStateLeak(Feeder& feeder);

Check CheckThreads(Feeder& feeder, const SelfCheckLimits& limits);

// Compares decode steps after a prefix that XNNPACK fed: both kernels see the
// same KV caches, so that differences do not add up.
Check CheckKernels(Feeder& feeder, const SelfCheckLimits& limits);

// Compares the last positions of the KV cache, through the shortest prefill
// signature and through decode.
Check CheckKvEnd(Feeder& feeder, const SelfCheckLimits& limits);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_SELF_CHECK_COMPARISONS_H_
