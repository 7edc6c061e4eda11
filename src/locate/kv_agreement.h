// KV caches as probes: after the same tokens, the candidate's caches and the
// reference's hold every layer's keys (after RoPE) and values.
#ifndef VERIFY_TFLITE_LOCATE_KV_AGREEMENT_H_
#define VERIFY_TFLITE_LOCATE_KV_AGREEMENT_H_

#include <cstdint>
#include <vector>

#include "candidate/session.h"
#include "checkpoint/model_config.h"
#include "locate/agreement.h"
#include "reference/reference.h"

namespace verify_tflite {

// [begin, end): to tell prefilled positions from decoded ones.
struct PositionRange {
  int64_t begin = 0;
  int64_t end = 0;
};

struct LayerAgreement {
  // What was compared: of a ring, those it still holds. Empty: nothing, and the
  // figures are NaN.
  PositionRange positions = {};
  HeadsAgreement keys = {};
  HeadsAgreement values = {};
};

struct KvAgreement {
  std::vector<LayerAgreement> layers;
};

// Compares what `kv` and `sequence` hold of the positions in `range`; both must
// have been fed the same tokens up to its end. `config` is the checkpoint's.
// Throws Error when they have not, when the numbers of layers differ (the file
// is no conversion of this checkpoint), and as Session::ReadKv does. A layer
// whose heads have another shape than the checkpoint's is an Error, too.
KvAgreement CompareKv(Session& session, KvCache& kv, const Sequence& sequence,
                      const ModelConfig& config, PositionRange range);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_LOCATE_KV_AGREEMENT_H_
