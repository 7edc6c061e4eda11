#include "verify/diagnosis.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "locate/agreement.h"
#include "locate/rope_probe.h"
#include "locate/rope_settings.h"
#include "locate/setting_fit.h"

namespace verify_tflite {
namespace {

// A tensor is explained where what is left is this much less than before.
constexpr double kExplained = 0.05;
// Likewise a stage, whose error is not squared.
constexpr double kLeft = 0.02;

constexpr std::string_view kLogits = "logits";  // as StructureFault::stage

constexpr std::array<double, 7> kEpsilons = {1e-5,  1e-6, 1e-7, 1e-8,
                                             1e-12, 1e-4, 1e-3};

// One of the two runs, and which of its tensors are wrong.
struct RunView {
  const char* name = "";  // "prefill", "decode"
  const std::vector<KvRows>* rows = nullptr;
  std::vector<bool> wrong_k;  // by layer
  std::vector<bool> wrong_v;

  bool Wrong(size_t layer) const { return wrong_k[layer] || wrong_v[layer]; }
  std::optional<size_t> FirstWrong() const {
    for (size_t i = 0; i < wrong_k.size(); ++i) {
      if (Wrong(i)) return i;
    }
    return std::nullopt;
  }
};

double Nmse(std::span<const float> reference,
            std::span<const float> candidate) {
  return MeasureAgreement(reference, candidate).nmse;
}

class Diagnostician {
 public:
  Diagnostician(const DiagnosisInput& input, const Probes& probes)
      : input_(input),
        probes_(probes),
        config_(input.checkpoint.config()),
        noise_(NoiseOf(input.model)) {}

  Diagnosis Run();

 private:
  double NoiseAt(size_t layer) const {
    return layer == 0 ? noise_.first : noise_.other;
  }
  bool Quantised() const {
    return input_.model.recipe >= Recipe::kInt8WeightOnly;
  }
  RunView View(const char* name, const std::vector<KvRows>& rows,
               TensorFigures LayerKv::*k, TensorFigures LayerKv::*v) const;
  bool RightAtStart(const RunView& run, size_t layer) const;

  void Find(FindingId id, std::string evidence, std::string sentence = "");

  bool LookAtReach();
  bool LookAtBackward();
  bool LookAtForward(const Reach& reach, const char* run);
  bool IsWindow(const Reach& reach, size_t layer, int64_t own, int64_t window);
  bool LookAtRope(const RunView& run);
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
  bool ExplainKeys(const WrongKeys& keys);
  bool LookAtKeys();
  bool Explains(const std::vector<StructureFault>& left) const;
  bool LookAtPlaces(const RunView& run);
  bool LookAtHeads(const RunView& run, size_t layer);
  bool LogitsWrong() const;
  bool Constant() const;
  bool Recompute();
  bool RecomputeStructure();
  void ReportPlace();
  void ReportStructure();
  void WeighByCost();
  std::string DescribeFaults() const;
  std::string DescribePlace(const RunView& run) const;

  struct Change {
    FindingId id = {};
    std::string text;
    Alternative alternative;
  };
  // A setting that is a number, and what it is looked for among.
  struct Setting {
    FindingId id = {};
    double low, high;
    int steps;
    std::function<void(ModelConfig&, double)> set;
    std::function<std::string(double)> text;
  };
  std::vector<Setting> SettingsOf(std::string_view stage) const;
  void FitSettings();
  std::vector<Change> Changes() const;
  void AddSettings(std::vector<Change>& changes) const;
  void AddMasks(std::vector<Change>& changes) const;
  void AddLayers(std::vector<Change>& changes) const;
  Hypothesis Test(const Change& change) const;
  Change With(FindingId id, std::string text,
              const std::function<void(ModelConfig&)>& change) const;

  const DiagnosisInput& input_;
  const Probes& probes_;
  const ModelConfig& config_;
  KvNoise noise_;
  RunView prefill_;
  RunView decode_;
  double kld_ = 0;              // of the decode run
  std::vector<Change> fitted_;  // by FitSettings
  Diagnosis result_;
};

RunView Diagnostician::View(const char* name, const std::vector<KvRows>& rows,
                            TensorFigures LayerKv::*k,
                            TensorFigures LayerKv::*v) const {
  RunView view{.name = name, .rows = &rows, .wrong_k = {}, .wrong_v = {}};
  const auto& layers = probes_.profile.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    // NaN, of an overwritten ring, is not wrong.
    view.wrong_k.push_back((layers[i].*k).nmse > NoiseAt(i));
    view.wrong_v.push_back((layers[i].*v).nmse > NoiseAt(i));
  }
  return view;
}

// Whether K and V of the text's first token are right: it attends to itself
// alone and is not rotated.
bool Diagnostician::RightAtStart(const RunView& run, size_t layer) const {
  const KvRows& rows = (*run.rows)[layer];
  const ReferenceLayer& r = probes_.reference[layer];
  if (rows.first > 0) return false;
  const auto width = static_cast<size_t>(rows.heads * rows.head_dim);
  const auto right = [&](const std::vector<float>& mine,
                         const std::vector<float>& theirs) {
    return Nmse(std::span(theirs).first(width), std::span(mine).first(width)) <=
           NoiseAt(layer);
  };
  return right(rows.keys, r.keys) && right(rows.values, r.values);
}

void Diagnostician::Find(FindingId id, std::string evidence,
                         std::string sentence) {
  result_.findings.push_back(MakeFinding({.id = id,
                                          .evidence = std::move(evidence),
                                          .sentence = std::move(sentence)}));
}

// --- which tokens attention sees ---

bool Diagnostician::LookAtBackward() {
  const Reach& reach = probes_.prefill_reach;
  for (size_t i = 1; i < reach.layers.size(); ++i) {
    const int64_t backward = reach.layers[i].backward;
    if (backward >= reach.length - 1) continue;
    Find(FindingId::kMask,
         fmt::format("Replacing token {} of {} changes the KV caches of layer "
                     "{} from token {} on; only token {} itself may change.",
                     reach.length, reach.length, i, backward + 1, reach.length),
         "Tokens see later tokens during prefill: the attention mask is not "
         "causal.");
    return true;
  }
  return false;
}

// Windows by what was seen: layer i's follows from what reaches layer i + 1's
// caches.
bool Diagnostician::LookAtForward(const Reach& reach, const char* run) {
  for (size_t i = 1; i < reach.layers.size(); ++i) {
    const int64_t expected =
        ExpectedForward(config_, static_cast<int64_t>(i), reach.length);
    const int64_t found = reach.layers[i].forward;
    if (found == expected || found < 0) continue;
    const int64_t window = found - reach.layers[i - 1].forward + 1;
    const int64_t own = config_.layers[i - 1].window;
    // What was seen was seen. What was not may have had too little weight.
    if (found < expected && !IsWindow(reach, i, own, window)) continue;
    Find(FindingId::kSlidingWindow,
         fmt::format("{}: replacing the first token changes layer {}'s KV "
                     "caches up to token {} of {}; by the checkpoint's windows "
                     "it may change them up to token {}.",
                     run, i, found + 1, reach.length, expected + 1),
         fmt::format(
             "Layer {} sees {}{} tokens, where the checkpoint has {}.", i - 1,
             found >= reach.length - 1 ? "at least " : "", window,
             own == 0 ? "no window" : fmt::format("a window of {}", own)));
    return true;
  }
  return false;
}

// Whether a window of `window` in the layers that should have `own` explains
// the logits; of prefill, which has none, whether layers' reaches add up.
bool Diagnostician::IsWindow(const Reach& reach, size_t layer, int64_t own,
                             int64_t window) {
  if (&reach == &probes_.prefill_reach) {
    return layer + 1 < reach.layers.size() &&
           reach.layers[layer + 1].forward ==
               std::min(reach.layers[layer].forward + window - 1,
                        reach.length - 1);
  }
  const Change change =
      With(FindingId::kSlidingWindow,
           fmt::format("a window of {} instead of {}", window, own),
           [&](ModelConfig& m) {
             for (LayerConfig& l : m.layers) {
               if (l.window == own) l.window = window;
             }
           });
  const Hypothesis hypothesis = Test(change);
  result_.hypotheses.push_back(hypothesis);
  return hypothesis.explains ||
         (!input_.faults.empty() &&
          Explains(input_.structure->FaultsUnder(change.alternative)));
}

bool Diagnostician::LookAtReach() {
  return LookAtBackward() || LookAtForward(probes_.decode_reach, "decode") ||
         LookAtForward(probes_.prefill_reach, "prefill");
}

// --- by which angles keys are rotated ---

// Of the keys that differ in the first layer that has such, and only where what
// they are computed from is right.
bool Diagnostician::LookAtRope(const RunView& run) {
  const bool decode = &run == &decode_;
  for (size_t i = 0; i < run.wrong_k.size(); ++i) {
    if (!run.wrong_k[i] || run.wrong_v[i]) {
      if (run.Wrong(i)) return false;
      continue;
    }
    const KvRows& rows = (*run.rows)[i];
    if (rows.first > 0) return false;
    std::vector<int64_t> positions;
    std::vector<int64_t> restarted;
    for (int64_t p = 0; p < rows.length; ++p) {
      positions.push_back(p);
      restarted.push_back(
          p < probes_.plan.first_call ? p : p - probes_.plan.first_call);
    }
    const auto size =
        static_cast<size_t>(rows.length * rows.heads * rows.head_dim);
    const std::span<const float> before =
        std::span(probes_.reference[i].keys_before_rope).first(size);
    return ExplainKeys(
        {.name = run.name,
         .layer = i,
         .before = before,
         .after = rows.keys,
         .positions = positions,
         .restarted = decode ? std::vector<int64_t>() : restarted,
         .only_decode = decode && !prefill_.wrong_k[i],
         .noise = NoiseAt(i)});
  }
  return false;
}

// The same from local verification, where no noise is in the way.
bool Diagnostician::LookAtKeys() {
  if (input_.structure == nullptr) return false;
  // Queries, where they are looked at, turn by the same angles.
  const auto first =
      std::find_if(input_.faults.begin(), input_.faults.end(),
                   [](const StructureFault& fault) {
                     return fault.layer >= 0 && fault.stage != "query";
                   });
  if (first == input_.faults.end() || first->stage != "key") return false;
  std::vector<float> before;
  std::vector<float> after;
  std::vector<int64_t> positions;
  for (const KeyRow& row : input_.structure->wrong_keys()) {
    if (row.layer != first->layer) continue;
    before.insert(before.end(), row.before.begin(), row.before.end());
    after.insert(after.end(), row.after.begin(), row.after.end());
    positions.push_back(row.position);
  }
  if (positions.empty()) return false;
  const bool in_prefill =
      std::any_of(input_.faults.begin(), input_.faults.end(),
                  [&](const StructureFault& fault) {
                    return fault.stage == "key" && !IsDecode(fault.signature);
                  });
  const bool found = ExplainKeys({.name = in_prefill ? "prefill" : "decode",
                                  .layer = static_cast<size_t>(first->layer),
                                  .before = before,
                                  .after = after,
                                  .positions = positions,
                                  .restarted = {},
                                  .only_decode = !in_prefill,
                                  .noise = 0});
  if (found) WeighByCost();
  return found;
}

bool Diagnostician::ExplainKeys(const WrongKeys& keys) {
  const LayerConfig& layer = config_.layers[keys.layer];
  if (!layer.rope || config_.rotary_dim == 0) return false;
  std::vector<float> before(keys.before.begin(), keys.before.end());
  for (float& x : before) {
    x *= static_cast<float>(config_.rope_attention_factor);
  }
  RopeSample sample = {before,           keys.after,         layer.num_kv_heads,
                       config_.head_dim, config_.rotary_dim, keys.positions};
  const std::vector<double> expected =
      input_.reference.RopeFrequencies(layer.local_rope);
  const double theta =
      layer.local_rope ? config_.local_rope_theta : config_.rope_theta;
  const std::vector<double> plain = RopeFrequencies(theta, config_.rotary_dim);
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
       ExplainRope(sample, config_, layer.local_rope)) {
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
    return false;
  }
  Find(best->id,
       fmt::format("Layer {}: values are right, keys are not. So rotated, "
                   "PyTorch's keys leave {:.2g} % of the energy unexplained; "
                   "as config.json says, {:.2g} %.",
                   keys.layer, 100 * best->residual, 100 * now),
       fmt::format("In {}, {}.", keys.name, best->sentence));
  result_.hypotheses.push_back({.finding = best->id,
                                .change = best->sentence,
                                .kld = best->residual,
                                .unchanged_kld = now,
                                .explains = true});
  return true;
}

// --- caches, heads or slots in another's place ---

bool Diagnostician::LookAtHeads(const RunView& run, size_t layer) {
  const KvRows& rows = (*run.rows)[layer];
  const ReferenceLayer& r = probes_.reference[layer];
  const auto width = static_cast<size_t>(rows.heads * rows.head_dim);
  const auto head_of = [&](const std::vector<float>& from, size_t head,
                           size_t row_width) {
    std::vector<float> result;
    for (int64_t p = 0; p < rows.length; ++p) {
      const auto at = from.begin() +
                      static_cast<int64_t>(static_cast<size_t>(p) * row_width +
                                           head * rows.head_dim);
      result.insert(result.end(), at, at + rows.head_dim);
    }
    return result;
  };
  const size_t query_width =
      r.queries.size() / std::max<size_t>(1, r.keys.size() / width);
  for (size_t head = 0; head < static_cast<size_t>(rows.heads); ++head) {
    const std::vector<float> value = head_of(rows.values, head, width);
    const std::vector<float> key = head_of(rows.keys, head, width);
    for (size_t other = 0; other < static_cast<size_t>(rows.heads); ++other) {
      if (other == head) continue;
      if (Nmse(head_of(r.values, other, width), value) > NoiseAt(layer)) {
        continue;
      }
      Find(FindingId::kKvLayout,
           fmt::format("Layer {}: the values in KV head {} are those of "
                       "PyTorch's head {}.",
                       layer, head, other));
      return true;
    }
    for (size_t q = 0; q * rows.head_dim < query_width; ++q) {
      if (Nmse(head_of(r.queries, q, query_width), key) > NoiseAt(layer)) {
        continue;
      }
      Find(FindingId::kQkSwapped,
           fmt::format("Layer {}: the keys in KV head {} are PyTorch's queries "
                       "of head {}.",
                       layer, head, q));
      return true;
    }
  }
  return false;
}

bool Diagnostician::LookAtPlaces(const RunView& run) {
  const auto layer = run.FirstWrong();
  if (!layer) return false;
  const KvRows& rows = (*run.rows)[*layer];
  const ReferenceLayer& r = probes_.reference[*layer];
  if (rows.first > 0 || rows.length < 2) return false;
  const auto width = static_cast<size_t>(rows.heads * rows.head_dim);
  const size_t size = static_cast<size_t>(rows.length) * width;
  const std::span<const float> keys(rows.keys);
  const std::span<const float> values(rows.values);
  if (Nmse(std::span(r.keys_before_rope).first(size), values) <=
      NoiseAt(*layer)) {
    Find(FindingId::kKvSwapped,
         fmt::format("Layer {}: the values are PyTorch's keys.", *layer));
    return true;
  }
  const size_t less = size - width;
  for (const bool high : {false, true}) {
    const auto mine = high ? keys.subspan(width) : keys.first(less);
    const auto theirs = high ? std::span(r.keys).first(less)
                             : std::span(r.keys).subspan(width, less);
    if (Nmse(theirs, mine) > NoiseAt(*layer)) continue;
    Find(FindingId::kKvUpdate,
         fmt::format("Layer {}: the key in slot p is that of token p {} 1.",
                     *layer, high ? "-" : "+"),
         fmt::format("{} writes keys one slot too {} into the KV cache.",
                     run.name, high ? "high" : "low"));
    return true;
  }
  return LookAtHeads(run, *layer);
}

// --- the reference with one thing changed ---

Diagnostician::Change Diagnostician::With(
    FindingId id, std::string text,
    const std::function<void(ModelConfig&)>& change) const {
  Change result{id, std::move(text), {}};
  result.alternative.config = config_;
  change(*result.alternative.config);
  return result;
}

void Diagnostician::AddSettings(std::vector<Change>& changes) const {
  const ModelConfig& c = config_;
  if (c.logit_softcap) {
    changes.push_back(With(FindingId::kSoftCapping,
                           "no soft-capping of the logits",
                           [](ModelConfig& m) { m.logit_softcap.reset(); }));
  }
  if (c.attention_softcap) {
    changes.push_back(
        With(FindingId::kSoftCapping, "no soft-capping of attention scores",
             [](ModelConfig& m) { m.attention_softcap.reset(); }));
  }
  for (const double eps : kEpsilons) {
    if (std::abs(eps / c.rms_norm_eps - 1) < 1e-6) continue;
    changes.push_back(With(
        FindingId::kNormEps,
        fmt::format("norm epsilon {:g} instead of {:g}", eps, c.rms_norm_eps),
        [&](ModelConfig& m) { m.rms_norm_eps = eps; }));
  }
  const double usual = 1 / std::sqrt(static_cast<double>(c.head_dim));
  for (const double scale : {1.0, usual}) {
    if (std::abs(scale / c.attention_scale - 1) < 1e-6) continue;
    changes.push_back(
        With(FindingId::kAttentionScale,
             fmt::format("attention scores scaled by {:.4g} instead of {:.4g}",
                         scale, c.attention_scale),
             [&](ModelConfig& m) { m.attention_scale = scale; }));
  }
  constexpr std::array<std::pair<Activation, const char*>, 4> kActivations = {{
      {Activation::kSilu, "SiLU"},
      {Activation::kGeluTanh, "GELU (tanh)"},
      {Activation::kGelu, "GELU (exact)"},
      {Activation::kGeluQuick, "quick GELU"},
  }};
  for (const auto& [activation, name] : kActivations) {
    if (activation == c.activation) continue;
    changes.push_back(With(FindingId::kActivation,
                           fmt::format("{} in the MLP", name),
                           [&](ModelConfig& m) { m.activation = activation; }));
  }
  if (c.qk_norm) {
    changes.push_back(With(FindingId::kQkNorm, "no norm of queries and keys",
                           [](ModelConfig& m) { m.qk_norm = false; }));
  }
  if (c.qkv_bias) {
    changes.push_back(With(FindingId::kAttentionBiasMissing,
                           "no biases of q, k and v",
                           [](ModelConfig& m) { m.qkv_bias = false; }));
  }
  if (c.norm_adds_one) {
    changes.push_back(With(FindingId::kNormWeights,
                           "norms scale by w, not by 1 + w",
                           [](ModelConfig& m) { m.norm_adds_one = false; }));
  }
  const double root = std::sqrt(static_cast<double>(c.hidden_size));
  for (const double scale : {1.0, root}) {
    if (std::abs(scale / c.embedding_scale - 1) < 1e-3) continue;
    changes.push_back(With(FindingId::kEmbedding,
                           fmt::format("embeddings multiplied by {:.4g} "
                                       "instead of {:.4g}",
                                       scale, c.embedding_scale),
                           [&](ModelConfig& m) { m.embedding_scale = scale; }));
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

void Diagnostician::AddMasks(std::vector<Change>& changes) const {
  const std::array<std::pair<MaskFault, const char*>, 3> kFaults = {{
      {MaskFault::kEmptySlots, "empty slots of the KV cache are seen"},
      {MaskFault::kNextSlot, "the slot behind each token is seen"},
      {MaskFault::kNotItself, "tokens do not see themselves"},
  }};
  for (const auto& [fault, text] : kFaults) {
    Change change{FindingId::kMask, text, {}};
    change.alternative.mask = fault;
    change.alternative.kv_length = input_.model.kv_length;
    changes.push_back(std::move(change));
  }
}

// Around the first layer that is wrong: what it holds was made by the one
// before.
void Diagnostician::AddLayers(std::vector<Change>& changes) const {
  const auto wrong = decode_.FirstWrong();
  const int64_t count = config_.num_layers;
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
std::vector<Diagnostician::Setting> Diagnostician::SettingsOf(
    std::string_view stage) const {
  const ModelConfig& c = config_;
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
void Diagnostician::FitSettings() {
  const auto first = std::find_if(
      input_.faults.begin(), input_.faults.end(),
      [](const StructureFault& fault) { return IsDecode(fault.signature); });
  if (first == input_.faults.end() || input_.structure == nullptr) return;
  const std::vector<Setting> settings = SettingsOf(first->stage);
  if (settings.empty()) return;
  // The embedding's tensor is the nearest of several: layer 0 tells which.
  std::optional<int64_t> last = std::max<int64_t>(first->layer, 0);
  if (first->layer < 0 && first->stage != NameOf(Stage::kEmbedding)) {
    last.reset();
  }
  const auto error_under = [&](const Alternative& alternative) {
    double most = 0;
    for (const StructureFault& fault :
         input_.structure->FaultsUnder(alternative, last)) {
      most = std::max(most, fault.error);
    }
    return most;
  };
  std::vector<Change> named;
  AddSettings(named);
  AddMasks(named);
  for (const Change& change : named) {
    if (error_under(change.alternative) == 0) return;
  }
  for (const Setting& setting : settings) {
    const auto with = [&](double x) {
      return With(setting.id, setting.text(x),
                  [&](ModelConfig& m) { setting.set(m, x); });
    };
    const auto value =
        FitSetting(setting.low, setting.high, setting.steps,
                   [&](double x) { return error_under(with(x).alternative); });
    if (value) fitted_.push_back(with(*value));
  }
}

std::vector<Diagnostician::Change> Diagnostician::Changes() const {
  std::vector<Change> changes = fitted_;
  AddLayers(changes);
  AddSettings(changes);
  AddMasks(changes);
  return changes;
}

Hypothesis Diagnostician::Test(const Change& change) const {
  Reference::Options options;
  options.num_threads = input_.num_threads;
  options.alternative = change.alternative;
  Reference reference = Reference::Open(input_.checkpoint, options);
  Sequence sequence = reference.NewSequence();
  const std::vector<Reference::Item> items = {
      {&sequence,
       std::span(probes_.plan.ids)
           .first(static_cast<size_t>(probes_.plan.decode)),
       probes_.plan.decode}};
  std::vector<float> logits;
  reference.Score(items, [&](size_t, int64_t, std::span<const float> row) {
    logits.insert(logits.end(), row.begin(), row.end());
  });
  Hypothesis hypothesis;
  hypothesis.finding = change.id;
  hypothesis.change = change.text;
  hypothesis.kld = ProbeKld(probes_, logits);
  hypothesis.unchanged_kld = kld_;
  hypothesis.explains = Quantised()
                            ? hypothesis.kld <= input_.limits.kld.pass &&
                                  hypothesis.kld < 0.5 * kld_
                            : hypothesis.kld < 0.01 * kld_;
  return hypothesis;
}

std::string SentenceFor(std::string_view change) {
  return fmt::format("The TFLite model computes something else: {}.", change);
}

bool Diagnostician::Recompute() {
  const std::vector<Change> changes = Changes();
  std::optional<Hypothesis> best;
  for (size_t i = 0; i < changes.size(); ++i) {
    if (input_.progress) {
      input_.progress("looking for the cause", static_cast<int64_t>(i + 1),
                      static_cast<int64_t>(changes.size()));
    }
    const Hypothesis hypothesis = Test(changes[i]);
    result_.hypotheses.push_back(hypothesis);
    if (!hypothesis.explains) continue;
    if (!best || hypothesis.kld < best->kld) best = hypothesis;
    // Nothing is left to explain.
    if (hypothesis.kld <= input_.limits.kld.pass) break;
  }
  if (!best) return false;
  Find(best->finding,
       fmt::format("PyTorch with this change agrees with it: mean KL "
                   "divergence {:.3g} instead of {:.3g} nats over {} "
                   "positions.",
                   best->kld, kld_, probes_.plan.decode),
       SentenceFor(best->change));
  return true;
}

// --- local verification with one thing changed ---

// Where faults lie, all signatures together: "input_norm of 30 layers, …".
std::string Diagnostician::DescribeFaults() const {
  std::vector<std::pair<std::string, std::set<int64_t>>> stages;
  for (const StructureFault& fault : input_.faults) {
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
  const StructureFault& first = input_.faults.front();
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

// Nothing may be left but what an approximation of the runtime's (of GELU) is
// off by, and that in a stage that was wrong before.
bool Diagnostician::Explains(const std::vector<StructureFault>& left) const {
  return std::all_of(left.begin(), left.end(), [&](const StructureFault& now) {
    return std::any_of(input_.faults.begin(), input_.faults.end(),
                       [&](const StructureFault& before) {
                         return now.signature == before.signature &&
                                now.stage == before.stage &&
                                now.layer == before.layer &&
                                now.steps == before.steps &&
                                now.error < kLeft * before.error;
                       });
  });
}

// What explains all faults of decode explains the file, however small they are.
bool Diagnostician::RecomputeStructure() {
  const auto in_decode = [](const StructureFault& fault) {
    return IsDecode(fault.signature);
  };
  if (std::none_of(input_.faults.begin(), input_.faults.end(), in_decode)) {
    return false;
  }
  const std::vector<Change> changes = Changes();
  for (size_t i = 0; i < changes.size(); ++i) {
    // Weights are taken by the place they have in the file.
    if (!changes[i].alternative.layers.empty()) continue;
    if (input_.progress) {
      input_.progress("looking for the cause", static_cast<int64_t>(i + 1),
                      static_cast<int64_t>(changes.size()));
    }
    if (!Explains(input_.structure->FaultsUnder(changes[i].alternative))) {
      continue;
    }
    Find(changes[i].id,
         DescribeFaults() +
             "\nWith this change every stage of decode agrees "
             "with it to float rounding.",
         SentenceFor(changes[i].text));
    WeighByCost();
    return true;
  }
  return false;
}

// A fault in what is computed is one whatever it costs.
void Diagnostician::WeighByCost() {
  if (input_.broken || kld_ > input_.limits.kld.broken) return;
  result_.findings.back().severity = Outcome::kDegraded;
}

void Diagnostician::ReportStructure() {
  Find(FindingId::kComputationDiffers, DescribeFaults());
  WeighByCost();
}

// --- by its place ---

std::string Diagnostician::DescribePlace(const RunView& run) const {
  const auto layer = run.FirstWrong();
  if (!layer)
    return fmt::format("{}: K and V of all layers are right.", run.name);
  const bool both = run.wrong_k[*layer] && run.wrong_v[*layer];
  const LayerKv& l = probes_.profile.layers[*layer];
  const bool prefill = &run == &prefill_;
  const TensorFigures& k = prefill ? l.prefill_k : l.decode_k;
  const TensorFigures& v = prefill ? l.prefill_v : l.decode_v;
  return fmt::format(
      "{}: first wrong in layer {}, {} (NMSE K {:.2g}, V {:.2g}; sound up to "
      "{:.2g}); the first token is {} there.",
      run.name, *layer,
      both                  ? "K and V"
      : run.wrong_k[*layer] ? "K alone"
                            : "V alone",
      k.nmse, v.nmse, NoiseAt(*layer),
      RightAtStart(run, *layer) ? "right" : "wrong, too");
}

void Diagnostician::ReportPlace() {
  const auto p = prefill_.FirstWrong();
  const auto d = decode_.FirstWrong();
  const bool faulty = !input_.faults.empty();
  if (!p && !d && faulty) return ReportStructure();
  const std::string evidence =
      DescribePlace(prefill_) + "\n" + DescribePlace(decode_) +
      fmt::format("\nlogits of decode: mean KL divergence {:.3g} nats", kld_) +
      (faulty ? fmt::format("\n{}", DescribeFaults()) : "");
  if (p && !d) {
    Find(FindingId::kPrefillDiffers, evidence,
         "Prefill is wrong where decode is right.");
  } else if (d && !p) {
    Find(FindingId::kDecodeDiffers, evidence);
  } else if (input_.weights_verified && (d || LogitsWrong())) {
    Find(FindingId::kComputationDiffers, evidence,
         "The converted graph computes something else from the checkpoint's "
         "own weights.");
  } else if (!d && LogitsWrong()) {
    Find(FindingId::kLmHead, evidence,
         "All layers are right, the logits are not: the fault is in the last "
         "layer's output, the final norm, the LM head or soft-capping.");
  } else if (d) {
    const auto& layer = probes_.profile.layers[*d];
    const bool unrelated = *d == 0 && layer.decode_v.cosine < 0.5;
    Find(unrelated ? FindingId::kWrongCheckpoint : FindingId::kWeightDiffers,
         evidence,
         *d == 0 ? "What enters layer 0, or its q, k and v, is not the "
                   "checkpoint's."
                 : fmt::format("Layer {} is the first that does not compute "
                               "what the checkpoint's does.",
                               *d - 1));
  }
}

// K and V being right. A quantised file is allowed to be far off there: that
// is the cost of its recipe, which Judge weighs.
bool Diagnostician::LogitsWrong() const {
  // With one scale a channel, int4 costs as much as a fault does.
  if (input_.model.recipe == Recipe::kInt4PerChannel &&
      input_.weights_verified) {
    return false;
  }
  const Limit& limit = input_.limits.kld;
  return kld_ > (Quantised() ? limit.broken : limit.pass);
}

bool Diagnostician::Constant() const {
  const auto& logits = probes_.candidate_logits;
  return std::all_of(logits.begin(), logits.end(),
                     [&](float x) { return x == logits.front(); });
}

Diagnosis Diagnostician::Run() {
  prefill_ = View("prefill", probes_.prefill, &LayerKv::prefill_k,
                  &LayerKv::prefill_v);
  decode_ =
      View("decode", probes_.decode, &LayerKv::decode_k, &LayerKv::decode_v);
  kld_ = ProbeKld(probes_, probes_.reference_logits);
  // Non-finite and constant logits are findings of their own, and hide others.
  if (!std::isfinite(kld_) || Constant()) return {};
  const bool reach = LookAtReach();
  const bool wrong = prefill_.FirstWrong() || decode_.FirstWrong() ||
                     input_.suspicious || !input_.faults.empty() ||
                     !(kld_ <= input_.limits.kld.broken);
  if (reach || !wrong) return std::move(result_);
  if (input_.weights_verified && input_.structure_verified) {
    return std::move(result_);
  }
  // What is downstream of wrong weights is wrong.
  if (input_.weights_differ) return std::move(result_);
  if (LookAtRope(decode_) || LookAtRope(prefill_) || LookAtPlaces(decode_) ||
      LookAtPlaces(prefill_) || LookAtKeys()) {
    return std::move(result_);
  }
  // Decode's logits say nothing of what is wrong in prefill alone.
  const bool decode_right =
      !decode_.FirstWrong() && kld_ <= input_.limits.kld.pass;
  if (input_.recompute) FitSettings();
  const bool explained = input_.recompute && ((!decode_right && Recompute()) ||
                                              RecomputeStructure());
  if (!explained) ReportPlace();
  return std::move(result_);
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

Diagnosis Diagnose(const DiagnosisInput& input, const Probes& probes) {
  return Diagnostician(input, probes).Run();
}

}  // namespace verify_tflite
