// Finds the setting of RoPE that a candidate was made with, where it is not
// config.json's.
//
// The formulas are the reference's own (transformers' modeling_rope_utils) with
// one setting changed. The keys tell which value of it explains them.
#ifndef VERIFY_TFLITE_LOCATE_ROPE_SETTINGS_H_
#define VERIFY_TFLITE_LOCATE_ROPE_SETTINGS_H_

#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "locate/rope_probe.h"
#include "result/finding.h"

namespace verify_tflite {

struct RopeExplanation {
  double residual = 0;  // share of the keys' energy that is left
  FindingId id = {};
  std::string sentence;
};

// Returns whether a residual explains as well as `than`: it is at most twice as
// large, or both are negligible beside `now`, that of config.json's angles.
bool ExplainsAsWell(double residual, double than, double now);

// Returns what explains the keys, each with one setting of `config` changed,
// the best first. Of those that explain as well, the simplest value comes
// first. `sample` is from a layer with RoPE; its `before` is multiplied by
// ModelConfig::rope_attention_factor already. `local` is
// LayerConfig::local_rope. Settings that the frequencies do not depend on are
// not tried.
std::vector<RopeExplanation> ExplainRope(const RopeSample& sample,
                                         const ModelConfig& config, bool local);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_LOCATE_ROPE_SETTINGS_H_
