// Takes what locates a fault: the KV caches of both models after the same
// tokens, once fed by prefill and once by decode.
#ifndef VERIFY_TFLITE_VERIFY_PROBES_H_
#define VERIFY_TFLITE_VERIFY_PROBES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "candidate/session.h"
#include "locate/reach_probe.h"
#include "reference/reference.h"
#include "result/verification.h"

namespace verify_tflite {

// The lengths of the two runs. Both texts begin with the same tokens.
struct ProbePlan {
  std::vector<int32_t> ids;
  int64_t first_call = 0;  // tokens of the first of two calls of prefill
  int64_t prefill = 0;     // tokens of both; 0: too few tokens to probe
  int64_t decode = 0;      // tokens fed by decode, in a run of its own
};

// Takes as many of `ids` as are useful: past the widest window of the
// checkpoint, where that is within reach.
ProbePlan PlanProbes(std::span<const int32_t> ids, const ModelInfo& model,
                     const ModelConfig& config);

// Returns what Session::Create must compile for it.
std::vector<PrefillPlan> ProbePrefills(const ModelInfo& model,
                                       const ProbePlan& plan);

// The reference's tensors of one layer, [positions, kv_heads, head_dim].
struct ReferenceLayer {
  std::vector<float> queries;  // after RoPE, [positions, num_heads, head_dim]
  std::vector<float> keys_before_rope;
  std::vector<float> keys;
  std::vector<float> values;
};

struct Probes {
  ProbePlan plan;
  std::vector<KvRows> prefill;  // the candidate's, by layer
  std::vector<KvRows> decode;
  std::vector<ReferenceLayer> reference;  // of the longer run
  KvProfile profile;
  // Logits after each token of the decode run, [decode, vocab].
  std::vector<float> candidate_logits;
  std::vector<float> reference_logits;
  Reach prefill_reach;
  Reach decode_reach;
};

// Runs both models. Throws Error as Session and Reference do.
Probes RunProbes(const ProbePlan& plan, Session& session, Reference& reference);

// Returns the mean KL divergence of the candidate's logits of the decode run
// from those of `reference_logits`, [decode, vocab], over the positions from
// `begin` on; infinite where logits are not finite.
double ProbeKld(const Probes& probes, std::span<const float> reference_logits,
                int64_t begin = 0);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_PROBES_H_
