// What the reference is computed again with, one thing changed at a time.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "locate/setting_fit.h"
#include "verify/causes/causes.h"

namespace verify_tflite {
namespace {

constexpr std::string_view kLogits = "logits";  // as StructureFault::stage

constexpr std::array<double, 7> kEpsilons = {1e-5,  1e-6, 1e-7, 1e-8,
                                             1e-12, 1e-4, 1e-3};

// A setting that is a number, and what it is looked for among.
struct Setting {
  FindingId id = {};
  double low, high;
  int steps;
  std::function<void(ModelConfig&, double)> set;
  std::function<std::string(double)> text;
};

std::string LogitsText(double divisor, double expected) {
  return fmt::format("logits multiplied by {:.4g} instead of {:.4g}",
                     1 / divisor, 1 / expected);
}

// Of a mixture of experts.
void AddExperts(const Evidence& evidence, std::vector<Change>& changes) {
  const ExpertsConfig& c = evidence.config.experts;
  if (c.count == 0) return;
  const auto add = [&](std::string text, auto&& set) {
    changes.push_back(With(evidence, FindingId::kExpertWeights, std::move(text),
                           [&](ModelConfig& m) { set(m.experts); }));
  };
  add(c.normalised ? "weights of experts not divided by their sum"
                   : "weights of experts divided by their sum",
      [&](ExpertsConfig& e) { e.normalised = !c.normalised; });
  for (const int64_t taken : std::set<int64_t>{
           1, c.taken / 2, c.taken - 1, c.taken + 1, 2 * c.taken, c.count}) {
    if (taken < 1 || taken > c.count || taken == c.taken) continue;
    add(fmt::format("{} expert{} taken instead of {}", taken,
                    taken == 1 ? "" : "s", c.taken),
        [&](ExpertsConfig& e) { e.taken = taken; });
  }
  if (c.scale != 1) {
    add(fmt::format("weights of experts not multiplied by {:.4g}", c.scale),
        [](ExpertsConfig& e) { e.scale = 1; });
  }
  if (c.shared_scale) {
    add("the shared expert not scaled",
        [](ExpertsConfig& e) { e.shared_scale = false; });
  }
}

// Of layers without a KV cache of their own whose attention is wrong.
void AddSharing(const Evidence& evidence, std::vector<Change>& changes) {
  const std::vector<LayerConfig>& layers = evidence.config.layers;
  std::set<size_t> wrong;
  for (const StructureFault& fault : evidence.input.faults) {
    if (fault.stage == NameOf(Stage::kAttention) && fault.layer >= 0) {
      wrong.insert(static_cast<size_t>(fault.layer));
    }
  }
  for (const size_t i : wrong) {
    if (i >= layers.size() || layers[i].kv_source < 0) continue;
    for (size_t other = 0; other < i; ++other) {
      const LayerConfig& from = layers[other];
      const auto source = static_cast<int64_t>(other);
      if (from.kv_source >= 0 || source == layers[i].kv_source ||
          from.head_dim != layers[i].head_dim ||
          from.num_kv_heads != layers[i].num_kv_heads) {
        continue;
      }
      changes.push_back(With(
          evidence, FindingId::kKvSharing,
          fmt::format("layer {} takes the keys and values of layer {} instead "
                      "of layer {}",
                      i, other, layers[i].kv_source),
          [&](ModelConfig& m) { m.layers[i].kv_source = source; }));
    }
  }
}

// Of Gemma 4 and Gemma 3n.
void AddPerLayer(const Evidence& evidence, std::vector<Change>& changes) {
  const ModelConfig& c = evidence.config;
  if (c.laurel_rank > 0) {
    Change lost{
        FindingId::kLaurelMissing, "what Laurel makes is not added", {}};
    lost.alternative.laurel_lost = true;
    changes.push_back(std::move(lost));
  }
  if (c.per_layer_size > 0) {
    Change unscaled{
        FindingId::kEmbedding,
        fmt::format("per-layer embeddings multiplied by 1 instead of {:.4g}",
                    std::sqrt(static_cast<double>(c.per_layer_size))),
        {}};
    unscaled.alternative.per_layer_unscaled = true;
    changes.push_back(std::move(unscaled));
  }
}

void AddSettings(const Evidence& evidence, std::vector<Change>& changes) {
  const ModelConfig& c = evidence.config;
  if (c.logit_softcap) {
    changes.push_back(With(
        evidence, FindingId::kSoftCapping,
        c.per_layer_size == 0
            ? "no soft-capping of the logits"
            : "no soft-capping of the logits; litert-torch 0.10.0's export_hf "
              "leaves it out of models with per-layer embeddings",
        [](ModelConfig& m) { m.logit_softcap.reset(); }));
  }
  if (c.attention_softcap) {
    changes.push_back(
        With(evidence, FindingId::kSoftCapping,
             "no soft-capping of attention scores",
             [](ModelConfig& m) { m.attention_softcap.reset(); }));
  }
  for (const double eps : kEpsilons) {
    if (std::abs(eps / c.rms_norm_eps - 1) < 1e-6) continue;
    changes.push_back(With(
        evidence, FindingId::kNormEps,
        fmt::format("norm epsilon {:g} instead of {:g}", eps, c.rms_norm_eps),
        [&](ModelConfig& m) { m.rms_norm_eps = eps; }));
  }
  const double usual = 1 / std::sqrt(static_cast<double>(c.head_dim));
  for (const double scale : {1.0, usual}) {
    if (std::abs(scale / c.attention_scale - 1) < 1e-6) continue;
    changes.push_back(
        With(evidence, FindingId::kAttentionScale,
             fmt::format("attention scores scaled by {:.4g} instead of {:.4g}",
                         scale, c.attention_scale),
             [&](ModelConfig& m) { m.attention_scale = scale; }));
  }
  constexpr std::array<std::pair<Activation, const char*>, 5> kActivations = {{
      {Activation::kSilu, "SiLU"},
      {Activation::kGeluTanh, "GELU (tanh)"},
      {Activation::kGelu, "GELU (exact)"},
      {Activation::kGeluQuick, "quick GELU"},
      {Activation::kRelu2, "the square of ReLU"},
  }};
  for (const auto& [activation, name] : kActivations) {
    if (activation == c.activation) continue;
    changes.push_back(With(evidence, FindingId::kActivation,
                           fmt::format("{} in the MLP", name),
                           [&](ModelConfig& m) { m.activation = activation; }));
  }
  if (c.qk_norm) {
    changes.push_back(With(evidence, FindingId::kQkNorm,
                           "no norm of queries and keys",
                           [](ModelConfig& m) { m.qk_norm = false; }));
  }
  if (c.qkv_bias) {
    changes.push_back(With(evidence, FindingId::kAttentionBiasMissing,
                           "no biases of q, k and v",
                           [](ModelConfig& m) { m.qkv_bias = false; }));
  }
  if (c.norm_adds_one) {
    changes.push_back(With(evidence, FindingId::kNormWeights,
                           "norms scale by w, not by 1 + w",
                           [](ModelConfig& m) { m.norm_adds_one = false; }));
  }
  AddExperts(evidence, changes);
  AddSharing(evidence, changes);
  AddPerLayer(evidence, changes);
  const double root = std::sqrt(static_cast<double>(c.hidden_size));
  for (const double scale : {1.0, root}) {
    if (std::abs(scale / c.embedding_scale - 1) < 1e-3) continue;
    changes.push_back(With(evidence, FindingId::kEmbedding,
                           fmt::format("embeddings multiplied by {:.4g} "
                                       "instead of {:.4g}",
                                       scale, c.embedding_scale),
                           [&](ModelConfig& m) { m.embedding_scale = scale; }));
  }
  if (c.residual_scale != 1) {
    changes.push_back(With(evidence, FindingId::kResidualScale,
                           fmt::format("the residual multiplied by 1 instead "
                                       "of {:.4g}",
                                       c.residual_scale),
                           [](ModelConfig& m) { m.residual_scale = 1; }));
  }
  for (const double divisor : {1.0, 1 / c.logit_divisor}) {
    if (divisor == c.logit_divisor) continue;
    changes.push_back(With(evidence, FindingId::kLogitsScale,
                           LogitsText(divisor, c.logit_divisor),
                           [&](ModelConfig& m) { m.logit_divisor = divisor; }));
  }
  if (c.qk_norm && c.rotary_dim > 0) {
    const bool after = c.qk_norm_after_rope;
    changes.push_back(With(
        evidence, FindingId::kQkNorm,
        fmt::format("norms of queries and keys {} RoPE, not {} it",
                    after ? "before" : "behind", after ? "behind" : "before"),
        [&](ModelConfig& m) { m.qk_norm_after_rope = !after; }));
  }
  if (c.query_scaling) {
    changes.push_back(With(evidence, FindingId::kAttentionScale,
                           "queries not scaled by their position",
                           [](ModelConfig& m) { m.query_scaling.reset(); }));
  }
  if (c.interleaved_rope) {
    changes.push_back(With(evidence, FindingId::kRopeInterleaved,
                           "RoPE turns the halves of a head, not neighbours",
                           [](ModelConfig& m) { m.interleaved_rope = false; }));
  }
  if (c.reversed_rope) {
    changes.push_back(With(evidence, FindingId::kRopeInterleaved,
                           "RoPE turns the other way round",
                           [](ModelConfig& m) { m.reversed_rope = false; }));
  }
  if (!c.tie_word_embeddings) {
    Change tied{FindingId::kTiedHead, "the embedding as LM head", {}};
    tied.alternative.tied_head = true;
    changes.push_back(std::move(tied));
  }
  if (c.num_kv_heads > 1 && c.num_kv_heads < c.num_heads) {
    Change heads{FindingId::kKvLayout, "query heads take KV heads in turn", {}};
    heads.alternative.heads_interleaved = true;
    changes.push_back(std::move(heads));
  }
  if (c.gated_mlp) {
    Change swapped{FindingId::kGateUpSwapped, "gate and up exchanged", {}};
    swapped.alternative.gate_up_swapped = true;
    changes.push_back(std::move(swapped));
  }
}

void AddMasks(const Evidence& evidence, std::vector<Change>& changes) {
  const std::array<std::pair<MaskFault, const char*>, 3> kFaults = {{
      {MaskFault::kEmptySlots, "empty slots of the KV cache are seen"},
      {MaskFault::kNextSlot, "the slot behind each token is seen"},
      {MaskFault::kNotItself, "tokens do not see themselves"},
  }};
  for (const auto& [fault, text] : kFaults) {
    Change change{FindingId::kMask, text, {}};
    change.alternative.mask = fault;
    change.alternative.kv_length = evidence.input.model.kv_length;
    changes.push_back(std::move(change));
  }
}

// Around the first layer that is wrong: what it holds was made by the one
// before.
void AddLayers(const Evidence& evidence, std::vector<Change>& changes) {
  // Not of layers that take the keys of another one.
  if (NumKvLayers(evidence.config) < evidence.config.num_layers) return;
  const auto wrong = evidence.decode.FirstWrong();
  const int64_t count = evidence.config.num_layers;
  std::vector<int64_t> plain;
  for (int64_t i = 0; i < count; ++i) plain.push_back(i);
  const auto add = [&](FindingId id, std::string text,
                       std::vector<int64_t> layers) {
    Change change{id, std::move(text), {}};
    change.alternative.layers = std::move(layers);
    changes.push_back(std::move(change));
  };
  const auto around = static_cast<int64_t>(wrong.value_or(0));
  // In another layer's place: wrong from its own K and V on.
  const int64_t last = std::min(count, around + 4);
  for (int64_t other = around + 1; other < last; ++other) {
    auto layers = plain;
    std::swap(layers[static_cast<size_t>(around)],
              layers[static_cast<size_t>(other)]);
    add(FindingId::kLayerOrder,
        fmt::format("layers {} and {} exchanged", around, other),
        std::move(layers));
  }
  for (const int64_t other : {around - 1, around + 1}) {
    if (!wrong || other < 0 || other >= count) continue;
    auto layers = plain;
    layers[static_cast<size_t>(around)] = other;
    add(FindingId::kLayerOrder,
        fmt::format("layer {} stands in layer {}'s place, too", other, around),
        std::move(layers));
  }
  // A layer that adds nothing shows in the next one's K and V; the last one in
  // the logits alone.
  const int64_t skipped = wrong ? around - 1 : count - 1;
  if (skipped >= 0 && count > 1) {
    auto layers = plain;
    layers.erase(layers.begin() + skipped);
    add(FindingId::kLayerSkipped, fmt::format("layer {} left out", skipped),
        std::move(layers));
  }
}

// Of a scale of attention: 0.2236 (1 / sqrt(20)).
std::string ScaleText(double scale) {
  const double square = 1 / (scale * scale);
  const bool is_root = std::abs(square - std::round(square)) < 1e-4 * square;
  return is_root ? fmt::format("{:.6g} (1 / sqrt({:.0f}))", scale, square)
                 : fmt::format("{:.6g}", scale);
}

// Those that the stage depends on by themselves.
std::vector<Setting> SettingsOf(const ModelConfig& c, std::string_view stage) {
  std::vector<Setting> settings;
  // Times and divided by 32, in steps of 2.
  const auto offer = [&](FindingId id, double now,
                         std::function<void(ModelConfig&, double)> set,
                         std::function<std::string(double)> text) {
    settings.push_back(
        {id, now / 32, now * 32, 10, std::move(set), std::move(text)});
  };
  if (stage == NameOf(Stage::kAttention)) {
    offer(
        FindingId::kAttentionScale, c.attention_scale,
        [](ModelConfig& m, double x) { m.attention_scale = x; },
        [&c](double x) {
          return fmt::format("attention scores scaled by {} instead of {}",
                             ScaleText(x), ScaleText(c.attention_scale));
        });
    if (c.attention_softcap) {
      offer(
          FindingId::kSoftCapping, *c.attention_softcap,
          [](ModelConfig& m, double x) { m.attention_softcap = x; },
          [&c](double x) {
            return fmt::format(
                "attention scores capped at {:.6g} instead of "
                "{:.6g}",
                x, *c.attention_softcap);
          });
    }
  } else if (stage == NameOf(Stage::kEmbedding)) {
    offer(
        FindingId::kEmbedding, c.embedding_scale,
        [](ModelConfig& m, double x) { m.embedding_scale = x; },
        [&c](double x) {
          return fmt::format(
              "embeddings multiplied by {:.6g} instead of "
              "{:.6g}",
              x, c.embedding_scale);
        });
  } else if (stage == NameOf(Stage::kAfterAttention) && c.residual_scale != 1) {
    offer(
        FindingId::kResidualScale, c.residual_scale,
        [](ModelConfig& m, double x) { m.residual_scale = x; },
        [&c](double x) {
          return fmt::format(
              "the residual multiplied by {:.6g} instead of "
              "{:.6g}",
              x, c.residual_scale);
        });
  } else if (stage == kLogits && c.logit_divisor != 1) {
    offer(
        FindingId::kLogitsScale, c.logit_divisor,
        [](ModelConfig& m, double x) { m.logit_divisor = x; },
        [&c](double x) { return LogitsText(x, c.logit_divisor); });
  } else if (stage == kLogits && c.logit_softcap) {
    offer(
        FindingId::kSoftCapping, *c.logit_softcap,
        [](ModelConfig& m, double x) { m.logit_softcap = x; },
        [&c](double x) {
          return fmt::format("logits capped at {:.6g} instead of {:.6g}", x,
                             *c.logit_softcap);
        });
  } else if (stage.ends_with("_norm")) {
    settings.push_back({FindingId::kNormEps, 1e-12, 1e-1, 11,
                        [](ModelConfig& m, double x) { m.rms_norm_eps = x; },
                        [&c](double x) {
                          return fmt::format(
                              "norm epsilon {:.3g} instead of {:g}", x,
                              c.rms_norm_eps);
                        }});
  }
  return settings;
}

// The value of the one setting that makes decode agree to float rounding, from
// its first stage that differs on: of the layers up to that one. Where a named
// change does, nothing is fitted.
std::vector<Change> FitSettings(const Evidence& evidence) {
  std::vector<Change> fitted;
  const auto first = std::find_if(
      evidence.input.faults.begin(), evidence.input.faults.end(),
      [](const StructureFault& fault) { return IsDecode(fault.signature); });
  if (first == evidence.input.faults.end() ||
      evidence.input.structure == nullptr) {
    return fitted;
  }
  const std::vector<Setting> settings =
      SettingsOf(evidence.config, first->stage);
  if (settings.empty()) return fitted;
  // The embedding's tensor is the nearest of several: layer 0 tells which.
  std::optional<int64_t> last = std::max<int64_t>(first->layer, 0);
  if (first->layer < 0 && first->stage != NameOf(Stage::kEmbedding)) {
    last.reset();
  }
  const auto error_under = [&](const Alternative& alternative) {
    double most = 0;
    for (const StructureFault& fault :
         evidence.input.structure->FaultsUnder(alternative, last)) {
      most = std::max(most, fault.error);
    }
    return most;
  };
  std::vector<Change> named;
  AddSettings(evidence, named);
  AddMasks(evidence, named);
  for (const Change& change : named) {
    if (error_under(change.alternative) == 0) return fitted;
  }
  for (const Setting& setting : settings) {
    const auto with = [&](double x) {
      return With(evidence, setting.id, setting.text(x),
                  [&](ModelConfig& m) { setting.set(m, x); });
    };
    const auto value =
        FitSetting(setting.low, setting.high, setting.steps,
                   [&](double x) { return error_under(with(x).alternative); });
    if (value) fitted.push_back(with(*value));
  }
  return fitted;
}

}  // namespace

std::vector<Change> ChangesFor(const Evidence& evidence) {
  std::vector<Change> changes = FitSettings(evidence);
  AddLayers(evidence, changes);
  AddSettings(evidence, changes);
  AddMasks(evidence, changes);
  return changes;
}

}  // namespace verify_tflite
