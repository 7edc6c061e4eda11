// By which angles keys are rotated.
#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "locate/rope_probe.h"
#include "locate/rope_settings.h"
#include "verify/causes/causes.h"

namespace verify_tflite {
namespace {

// Keys are explained where what is left of their energy is this much less than
// before.
constexpr double kExplained = 0.05;

// Keys of one layer, [positions, heads, head_dim].
struct WrongKeys {
  const char* name;  // of the run
  size_t layer;
  std::span<const float> before;  // RoPE, as they should be
  std::span<const float> after;   // as the candidate has them
  std::span<const int64_t> positions;
  // Where the second call of prefill begins at 0 again; may be empty.
  std::vector<int64_t> restarted;
  bool only_decode;  // prefill's are right
  double noise;
};

// Makes halves of heads of the neighbours that turn together, which is all that
// the probe knows.
void PairAsHalves(const ModelConfig& config, std::span<float> heads) {
  const auto rotary = static_cast<size_t>(config.rotary_dim);
  const auto size = static_cast<size_t>(config.head_dim);
  std::vector<float> head(rotary);
  for (size_t at = 0; at + size <= heads.size(); at += size) {
    std::copy_n(heads.begin() + static_cast<int64_t>(at), rotary, head.begin());
    for (size_t i = 0; i < rotary; ++i) {
      heads[at + i % 2 * (rotary / 2) + i / 2] = head[i];
    }
  }
}

Explanation ExplainKeys(const Evidence& evidence, const WrongKeys& keys) {
  const LayerConfig& layer = evidence.config.layers[keys.layer];
  const int64_t rotary =
      layer.local_rope && evidence.config.local_rotary_dim > 0
          ? evidence.config.local_rotary_dim
          : evidence.config.rotary_dim;
  if (!layer.rope || rotary == 0) return {};
  // Behind a norm, rotated keys are no longer what the probe knows.
  if (evidence.config.qk_norm_after_rope) return {};
  std::vector<float> before(keys.before.begin(), keys.before.end());
  std::vector<float> after(keys.after.begin(), keys.after.end());
  if (evidence.config.interleaved_rope) {
    PairAsHalves(evidence.config, before);
    PairAsHalves(evidence.config, after);
  }
  // Layers with local_rope are not scaled.
  const double amplitude =
      layer.local_rope ? 1 : evidence.config.rope_attention_factor;
  for (float& x : before) x *= static_cast<float>(amplitude);
  RopeSample sample = {before,
                       after,
                       layer.num_kv_heads,
                       layer.head_dim,
                       rotary,
                       keys.positions};
  const std::vector<double> expected =
      evidence.input.reference.RopeFrequencies(layer.local_rope);
  const double theta = layer.local_rope ? evidence.config.local_rope_theta
                                        : evidence.config.rope_theta;
  const std::vector<double> plain = RopeFrequencies(theta, rotary);
  const std::vector<double> none(expected.size(), 0.0);
  const double now = RopeResidual(sample, expected);
  std::vector<RopeExplanation> all;
  all.push_back(
      {RopeResidual(sample, none),
       keys.only_decode ? FindingId::kKvUpdate : FindingId::kRopeMissing,
       "keys are stored without RoPE"});
  for (const int64_t shift : {-1, 1}) {
    all.push_back({RopeResidual(sample, expected, shift),
                   FindingId::kDecodePosition,
                   fmt::format("keys are rotated for positions {} by one",
                               shift > 0 ? "too high" : "too low")});
  }
  if (!keys.restarted.empty()) {
    sample.position = keys.restarted;
    all.push_back({RopeResidual(sample, expected), FindingId::kPositionsRestart,
                   "positions begin at 0 again in the second call of prefill"});
    sample.position = keys.positions;
  }
  all.push_back({RopeResidual(sample, expected, 0, RopePairs::kInterleaved),
                 FindingId::kRopeInterleaved,
                 "rows of k are in the order of Meta's checkpoints, pairs side "
                 "by side"});
  if (plain != expected) {
    all.push_back({RopeResidual(sample, plain), FindingId::kRopeScaling,
                   "RoPE is not scaled, where config.json asks for it"});
  }
  const RopeFit factor = FitRopeFactor(sample, expected);
  all.push_back({factor.residual, FindingId::kRopeScaling,
                 fmt::format("all RoPE frequencies are {:.4g} times those of "
                             "config.json",
                             1 / factor.value)});
  for (RopeExplanation& setting :
       ExplainRope(sample, evidence.config, layer.local_rope)) {
    all.push_back(std::move(setting));
  }
  const auto best =
      std::min_element(all.begin(), all.end(),
                       [&](const RopeExplanation& a, const RopeExplanation& b) {
                         // A simpler one that is as good comes first.
                         return !ExplainsAsWell(b.residual, a.residual, now);
                       });
  if (best->residual > kExplained * now &&
      !(best->residual <= keys.noise && best->residual < 0.3 * now)) {
    return {};
  }
  Explanation result;
  result.finding = MakeFinding(
      {.id = best->id,
       .evidence = fmt::format(
           "Layer {}: values are right, keys are not. So rotated, "
           "PyTorch's keys leave {:.2g} % of the energy unexplained; "
           "as config.json says, {:.2g} %.",
           keys.layer, 100 * best->residual, 100 * now),
       .sentence = fmt::format("In {}, {}.", keys.name, best->sentence)});
  result.tried.push_back({.finding = best->id,
                          .change = best->sentence,
                          .kld = best->residual,
                          .unchanged_kld = now,
                          .explains = true});
  return result;
}

// Of the keys that differ in the first layer that has such, and only where what
// they are computed from is right.
Explanation ExplainByRope(const Evidence& evidence, const RunView& run) {
  const bool decode = &run == &evidence.decode;
  for (size_t i = 0; i < run.wrong_k.size(); ++i) {
    if (!run.wrong_k[i] || run.wrong_v[i]) {
      if (run.Wrong(i)) return {};
      continue;
    }
    const KvRows& rows = (*run.rows)[i];
    if (rows.first > 0) return {};
    std::vector<int64_t> positions;
    std::vector<int64_t> restarted;
    for (int64_t p = 0; p < rows.length; ++p) {
      positions.push_back(p);
      restarted.push_back(p < evidence.probes.plan.first_call
                              ? p
                              : p - evidence.probes.plan.first_call);
    }
    const auto size =
        static_cast<size_t>(rows.length * rows.heads * rows.head_dim);
    const std::span<const float> before =
        std::span(evidence.probes.reference[i].keys_before_rope).first(size);
    return ExplainKeys(
        evidence, {.name = run.name,
                   .layer = i,
                   .before = before,
                   .after = rows.keys,
                   .positions = positions,
                   .restarted = decode ? std::vector<int64_t>() : restarted,
                   .only_decode = decode && !evidence.prefill.wrong_k[i],
                   .noise = evidence.NoiseAt(i)});
  }
  return {};
}

}  // namespace

Explanation ExplainByDecodeRope(const Evidence& evidence) {
  return ExplainByRope(evidence, evidence.decode);
}

Explanation ExplainByPrefillRope(const Evidence& evidence) {
  return ExplainByRope(evidence, evidence.prefill);
}

Explanation ExplainByWrongKeys(const Evidence& evidence) {
  if (evidence.input.structure == nullptr) return {};
  // Queries, where they are looked at, turn by the same angles.
  const auto first =
      std::find_if(evidence.input.faults.begin(), evidence.input.faults.end(),
                   [](const StructureFault& fault) {
                     return fault.layer >= 0 && fault.stage != "query";
                   });
  if (first == evidence.input.faults.end() || first->stage != "key") return {};
  std::vector<float> before;
  std::vector<float> after;
  std::vector<int64_t> positions;
  for (const KeyRow& row : evidence.input.structure->wrong_keys()) {
    if (row.layer != first->layer) continue;
    before.insert(before.end(), row.before.begin(), row.before.end());
    after.insert(after.end(), row.after.begin(), row.after.end());
    positions.push_back(row.position);
  }
  if (positions.empty()) return {};
  const bool in_prefill =
      std::any_of(evidence.input.faults.begin(), evidence.input.faults.end(),
                  [&](const StructureFault& fault) {
                    return fault.stage == "key" && !IsDecode(fault.signature);
                  });
  Explanation result =
      ExplainKeys(evidence, {.name = in_prefill ? "prefill" : "decode",
                             .layer = static_cast<size_t>(first->layer),
                             .before = before,
                             .after = after,
                             .positions = positions,
                             .restarted = {},
                             .only_decode = !in_prefill,
                             .noise = 0});
  if (result.finding) result.finding->severity = SeverityByCost(evidence);
  return result;
}

}  // namespace verify_tflite
