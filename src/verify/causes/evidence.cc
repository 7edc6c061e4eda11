#include "verify/causes/evidence.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "locate/agreement.h"

namespace verify_tflite {
namespace {

// A stage is explained where what is left is this much less than before.
constexpr double kLeft = 0.02;

RunView View(const Evidence& evidence, const char* name,
             const std::vector<KvRows>& rows, TensorFigures LayerKv::*k,
             TensorFigures LayerKv::*v) {
  RunView view{.name = name, .rows = &rows, .wrong_k = {}, .wrong_v = {}};
  const auto& layers = evidence.probes.profile.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    // NaN, of an overwritten ring, is not wrong.
    view.wrong_k.push_back((layers[i].*k).nmse > evidence.NoiseAt(i));
    view.wrong_v.push_back((layers[i].*v).nmse > evidence.NoiseAt(i));
  }
  return view;
}

}  // namespace

KvNoise NoiseOf(const ModelInfo& model) {
  KvNoise noise;
  switch (model.recipe) {
    case Recipe::kFloat32:
      noise = {1e-9, 1e-9};
      break;
    case Recipe::kFloat16:
      noise = {1e-5, 1e-4};
      break;
    case Recipe::kInt8WeightOnly:
    case Recipe::kInt8:
    case Recipe::kInt16x8Static:
      noise = {0.01, 0.1};
      break;
    case Recipe::kInt8Static:
    case Recipe::kInt4:
      noise = {0.15, 0.8};
      break;
    case Recipe::kInt4PerChannel:  // sound: 0.22 and 1.1 (Gemma 3 270M)
      noise = {0.6, 3.5};
      break;
  }
  // Caches of fewer bits than the weights have noise of their own.
  double cache = 0;
  if (model.kv_type == "FLOAT16") cache = 1e-5;
  if (model.kv_type == "INT8") cache = 0.01;
  return {std::max(noise.first, cache), std::max(noise.other, cache)};
}

Evidence LookAt(const DiagnosisInput& input, const Probes& probes) {
  Evidence evidence{.input = input,
                    .probes = probes,
                    .config = input.checkpoint.config(),
                    .noise = NoiseOf(input.model),
                    .prefill = {},
                    .decode = {}};
  evidence.prefill = View(evidence, "prefill", probes.prefill,
                          &LayerKv::prefill_k, &LayerKv::prefill_v);
  evidence.decode = View(evidence, "decode", probes.decode, &LayerKv::decode_k,
                         &LayerKv::decode_v);
  evidence.kld = ProbeKld(probes, probes.reference_logits);
  return evidence;
}

double Nmse(std::span<const float> reference,
            std::span<const float> candidate) {
  return MeasureAgreement(reference, candidate).nmse;
}

Outcome SeverityByCost(const Evidence& evidence) {
  const bool broken =
      evidence.input.broken || evidence.kld > evidence.input.limits.kld.broken;
  return broken ? Outcome::kBroken : Outcome::kDegraded;
}

std::string DescribeFaults(const Evidence& evidence) {
  std::vector<std::pair<std::string, std::set<int64_t>>> stages;
  for (const StructureFault& fault : evidence.input.faults) {
    const auto same = [&](const auto& entry) {
      return entry.first == fault.stage;
    };
    auto found = std::find_if(stages.begin(), stages.end(), same);
    if (found == stages.end()) {
      found = stages.insert(stages.end(), {fault.stage, {}});
    }
    found->second.insert(fault.layer);
  }
  std::vector<std::string> texts;
  for (const auto& [stage, layers] : stages) {
    texts.push_back(layers.size() == 1 && *layers.begin() < 0
                        ? stage
                        : fmt::format("{} of layer{} {}", stage,
                                      layers.size() == 1 ? "" : "s",
                                      fmt::join(layers, ", ")));
  }
  const StructureFault& first = evidence.input.faults.front();
  return fmt::format(
      "Computed from the TFLite model's own tensors, these stages are "
      "something else than the checkpoint's model: {}.\nThe first, in {} at "
      "position {}{}: off by {:.2g} {}; {} rounding allows {:.2g}.",
      fmt::join(texts, "; "), first.signature, first.position,
      first.op.empty()
          ? std::string()
          : fmt::format(", computed by {} ({})", first.op, first.tensor),
      first.error, first.steps ? "steps of its integers" : "of its size",
      first.steps ? "integer" : "float", first.limit);
}

bool Explains(const Evidence& evidence,
              const std::vector<StructureFault>& left) {
  return std::all_of(left.begin(), left.end(), [&](const StructureFault& now) {
    return std::any_of(
        evidence.input.faults.begin(), evidence.input.faults.end(),
        [&](const StructureFault& before) {
          return now.signature == before.signature &&
                 now.stage == before.stage && now.layer == before.layer &&
                 now.steps == before.steps && now.error < kLeft * before.error;
        });
  });
}

Hypothesis Test(const Evidence& evidence, const Change& change) {
  Reference::Options options;
  options.num_threads = evidence.input.num_threads;
  options.alternative = change.alternative;
  Reference reference = Reference::Open(evidence.input.checkpoint, options);
  Sequence sequence = reference.NewSequence();
  const std::vector<Reference::Item> items = {
      {&sequence,
       std::span(evidence.probes.plan.ids)
           .first(static_cast<size_t>(evidence.probes.plan.decode)),
       evidence.probes.plan.decode}};
  std::vector<float> logits;
  reference.Score(items, [&](size_t, int64_t, std::span<const float> row) {
    logits.insert(logits.end(), row.begin(), row.end());
  });
  Hypothesis hypothesis;
  hypothesis.finding = change.id;
  hypothesis.change = change.text;
  hypothesis.kld = ProbeKld(evidence.probes, logits);
  hypothesis.unchanged_kld = evidence.kld;
  hypothesis.explains =
      evidence.Quantised() ? hypothesis.kld <= evidence.input.limits.kld.pass &&
                                 hypothesis.kld < 0.5 * evidence.kld
                           : hypothesis.kld < 0.01 * evidence.kld;
  return hypothesis;
}

Change With(const Evidence& evidence, FindingId id, std::string text,
            const std::function<void(ModelConfig&)>& change) {
  Change result{id, std::move(text), {}};
  result.alternative.config = evidence.config;
  change(*result.alternative.config);
  return result;
}

std::string SentenceFor(std::string_view change) {
  return fmt::format("The TFLite model computes something else: {}.", change);
}

}  // namespace verify_tflite
