#include "verify/probes.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "base/error.h"
#include "locate/agreement.h"
#include "result/metrics.h"

namespace verify_tflite {
namespace {

constexpr int64_t kPrefill = 64;
constexpr int64_t kDecode = 48;
// A window wider than this is not crossed: running past it takes too long.
constexpr int64_t kWidestWindow = 256;

TensorFigures FiguresOf(std::span<const float> reference,
                        std::span<const float> candidate, int64_t heads,
                        int64_t head_dim) {
  const HeadsAgreement agreement =
      MeasureHeads(reference, candidate, heads, head_dim);
  return {.nmse = agreement.all.nmse,
          .cosine = agreement.all.cosine,
          .norm_ratio = agreement.all.norm_ratio,
          .worst_head = static_cast<int64_t>(agreement.worst_head),
          .worst_head_nmse = agreement.heads[agreement.worst_head].nmse};
}

// `rows` against the reference's `tensor` of the same positions.
TensorFigures Compare(const KvRows& rows, std::span<const float> candidate,
                      std::span<const float> tensor) {
  const auto width = static_cast<size_t>(rows.heads * rows.head_dim);
  return FiguresOf(tensor.subspan(static_cast<size_t>(rows.first) * width,
                                  static_cast<size_t>(rows.length) * width),
                   candidate, rows.heads, rows.head_dim);
}

std::vector<KvRows> ReadAll(Session& session, KvCache& kv) {
  std::vector<KvRows> layers;
  for (const int64_t i : session.kv_layers()) {
    // Layers between that have no keys have no rows.
    layers.resize(static_cast<size_t>(i));
    layers.push_back(session.ReadKv(kv, i));
  }
  return layers;
}

void RunReference(Reference& reference, Probes& probes) {
  const int64_t length = std::max(probes.plan.prefill, probes.plan.decode);
  const std::span<const int32_t> ids =
      std::span(probes.plan.ids).first(static_cast<size_t>(length));
  Sequence sequence = reference.NewSequence();
  const std::vector<Reference::Item> items = {{&sequence, ids, length}};
  const auto decode = probes.plan.decode;
  const auto keep_logits = [&](size_t, int64_t row,
                               std::span<const float> logits) {
    if (row >= decode) return;
    probes.reference_logits.insert(probes.reference_logits.end(),
                                   logits.begin(), logits.end());
  };
  const auto keep_keys = [&](const Captured& captured) {
    if (captured.layer < 0 || !reference.HasKeys(captured.layer)) return;
    const auto layer = static_cast<size_t>(captured.layer);
    if (probes.reference.size() <= layer) probes.reference.resize(layer + 1);
    // The norm of keys comes after their projection, where there is one.
    if (captured.stage == Stage::kKeyProjection ||
        captured.stage == Stage::kKeyNorm) {
      probes.reference[layer].keys_before_rope.assign(captured.values.begin(),
                                                      captured.values.end());
    }
    if (captured.stage == Stage::kQuery) {
      probes.reference[layer].queries.assign(captured.values.begin(),
                                             captured.values.end());
    }
  };
  reference.Score(items, keep_logits, keep_keys);
  for (size_t i = 0; i < probes.reference.size(); ++i) {
    if (!reference.HasKeys(static_cast<int64_t>(i))) continue;
    probes.reference[i].keys = sequence.Keys(static_cast<int64_t>(i));
    probes.reference[i].values = sequence.Values(static_cast<int64_t>(i));
  }
}

void RunCandidate(Session& session, Probes& probes) {
  const std::span<const int32_t> ids(probes.plan.ids);
  const auto first = static_cast<size_t>(probes.plan.first_call);
  const auto prefill = static_cast<size_t>(probes.plan.prefill);
  KvCache prefilled = session.NewKvCache();
  session.Prefill(prefilled, ids.first(first));
  session.Prefill(prefilled, ids.subspan(first, prefill - first));
  probes.prefill = ReadAll(session, prefilled);
  KvCache decoded = session.NewKvCache();
  for (const int32_t id : ids.first(static_cast<size_t>(probes.plan.decode))) {
    const std::span<const float> logits = session.Decode(decoded, id);
    probes.candidate_logits.insert(probes.candidate_logits.end(),
                                   logits.begin(), logits.end());
  }
  probes.decode = ReadAll(session, decoded);
}

// Of a layer without keys: as of rings that were overwritten.
LayerKv NoFigures() {
  TensorFigures none;
  none.nmse = std::numeric_limits<double>::quiet_NaN();
  return {none, none, none, none};
}

KvProfile ProfileOf(const Probes& probes) {
  KvProfile profile;
  profile.prefill_positions = probes.plan.prefill;
  profile.decode_positions = probes.plan.decode;
  for (size_t i = 0; i < probes.reference.size(); ++i) {
    if (probes.reference[i].keys.empty()) {
      profile.layers.push_back(NoFigures());
      continue;
    }
    const ReferenceLayer& r = probes.reference[i];
    const KvRows& p = probes.prefill[i];
    const KvRows& d = probes.decode[i];
    profile.layers.push_back({.prefill_k = Compare(p, p.keys, r.keys),
                              .prefill_v = Compare(p, p.values, r.values),
                              .decode_k = Compare(d, d.keys, r.keys),
                              .decode_v = Compare(d, d.values, r.values)});
  }
  return profile;
}

}  // namespace

ProbePlan PlanProbes(std::span<const int32_t> ids, const ModelInfo& model,
                     const ModelConfig& config) {
  int64_t beyond = 0;
  for (const LayerConfig& layer : config.layers) {
    if (layer.window <= kWidestWindow) beyond = std::max(beyond, layer.window);
  }
  const int64_t available =
      std::min(static_cast<int64_t>(ids.size()), model.kv_length);
  ProbePlan plan;
  plan.prefill = std::min(beyond + kPrefill, available);
  plan.decode = std::min(beyond + kDecode, available);
  if (plan.prefill < 8 || plan.decode < 2) return {};
  // Neither a multiple of usual prefill lengths nor the half.
  plan.first_call = plan.prefill * 5 / 8;
  plan.ids.assign(ids.begin(),
                  ids.begin() + std::max(plan.prefill, plan.decode));
  return plan;
}

std::vector<PrefillPlan> ProbePrefills(const ModelInfo& model,
                                       const ProbePlan& plan) {
  std::vector<int64_t> lengths;
  for (const PrefillInfo& prefill : model.prefills) {
    lengths.push_back(prefill.length);
  }
  if (plan.prefill == 0) return {};
  const int64_t rest = plan.prefill - plan.first_call;
  return {PlanPrefill(lengths, model.kv_length, 0, plan.first_call),
          PlanPrefill(lengths, model.kv_length, plan.first_call, rest),
          // Of the reach, in one call.
          PlanPrefill(lengths, model.kv_length, 0, plan.prefill)};
}

Probes RunProbes(const ProbePlan& plan, Session& session,
                 Reference& reference) {
  Probes probes;
  probes.plan = plan;
  RunReference(reference, probes);
  RunCandidate(session, probes);
  if (probes.reference.size() != probes.prefill.size()) {
    throw Error("the converted model has KV caches of {} layers, expected {}",
                probes.prefill.size(), probes.reference.size());
  }
  probes.profile = ProfileOf(probes);
  // Another token than the first and the last, and one that the text has.
  const std::span<const int32_t> ids(plan.ids);
  int32_t other = ids[0];
  for (const int32_t id : ids) {
    if (id != ids[0] && id != ids[static_cast<size_t>(plan.prefill) - 1] &&
        id != ids[static_cast<size_t>(plan.decode) - 1]) {
      other = id;
    }
  }
  probes.prefill_reach = MeasureReach(
      session, ids.first(static_cast<size_t>(plan.prefill)), other, true);
  probes.decode_reach = MeasureReach(
      session, ids.first(static_cast<size_t>(plan.decode)), other, false);
  return probes;
}

double ProbeKld(const Probes& probes, std::span<const float> reference_logits,
                int64_t begin) {
  const auto rows = static_cast<size_t>(probes.plan.decode);
  const size_t vocab = probes.candidate_logits.size() / rows;
  double sum = 0;
  for (auto row = static_cast<size_t>(begin); row < rows; ++row) {
    sum +=
        Compare(reference_logits.subspan(row * vocab, vocab),
                std::span(probes.candidate_logits).subspan(row * vocab, vocab))
            .kld;
  }
  return sum / static_cast<double>(rows - static_cast<size_t>(begin));
}

}  // namespace verify_tflite
