// KV caches as probes: after the same tokens, the candidate's caches and the
// reference's hold every layer's keys (after RoPE) and values.
#ifndef VERIFY_TFLITE_LOCATE_KV_PROFILE_H_
#define VERIFY_TFLITE_LOCATE_KV_PROFILE_H_

#include <cstdint>
#include <vector>

#include "candidate/session.h"
#include "locate/agreement.h"
#include "reference/reference.h"

namespace verify_tflite {

// [begin, end): to tell prefilled positions from decoded ones.
struct PositionRange {
  int64_t begin = 0;
  int64_t end = 0;
};

struct LayerKv {
  // What was compared: of a ring, those it still holds. Empty: nothing, and the
  // figures are NaN.
  PositionRange positions = {};
  HeadsAgreement keys = {};
  HeadsAgreement values = {};
};

struct KvProfile {
  std::vector<LayerKv> layers;
};

// Compares what `kv` and `sequence` hold of the positions in `range`; both must
// have been fed the same tokens up to its end. Throws Error when they have not,
// when the numbers of layers or the shapes of heads differ (the file is no
// conversion of this checkpoint), and as Session::ReadKv does.
KvProfile ProfileKv(Session& session, KvCache& kv, const Sequence& sequence,
                    PositionRange range);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_LOCATE_KV_PROFILE_H_
