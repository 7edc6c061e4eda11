// Measures which tokens a candidate's attention sees, without a reference.
//
// The KV caches of layer l hold what layers 0 … l-1 made of the tokens. When
// one token is replaced by another, entries differ exactly where that token was
// seen, and are equal bit for bit where it was not. A masked score adds
// nothing, in float and in quantised files.
#ifndef VERIFY_TFLITE_LOCATE_REACH_PROBE_H_
#define VERIFY_TFLITE_LOCATE_REACH_PROBE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "candidate/session.h"
#include "checkpoint/model_config.h"

namespace verify_tflite {

struct LayerReach {
  // The last position at which the first token's replacement shows in this
  // layer's KV caches.
  int64_t forward = 0;
  // The first position at which the last token's replacement shows.
  int64_t backward = 0;
};

struct Reach {
  int64_t length = 0;  // tokens fed
  std::vector<LayerReach> layers;
};

// Feeds `tokens` (two at least) three times into fresh KV caches: as they are,
// with `other` in the first place, and with `other` in the last. They go
// through prefill (one call) or decode, token by token. Entries that a ring has
// overwritten are not looked at. Throws Error as Session does.
Reach MeasureReach(Session& session, std::span<const int32_t> tokens,
                   int32_t other, bool by_prefill);

// Returns what the checkpoint's windows allow: the last position at which layer
// `layer`'s caches depend on the first of `length` tokens.
int64_t ExpectedForward(const ModelConfig& config, int64_t layer,
                        int64_t length);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_LOCATE_REACH_PROBE_H_
