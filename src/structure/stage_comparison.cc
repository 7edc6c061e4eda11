#include "structure/stage_comparison.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <optional>

#include "base/error.h"
#include "reference/experts.h"
#include "structure/position_check.h"

namespace verify_tflite {
namespace {

// Of a row, relative to its L2 norm. docs/structure.md has what sound files
// reach.
constexpr double kLinearLimit = 1e-6;
// Of Reference::Probe's estimate, which scatters. What is beyond is computed in
// float64, too.
constexpr double kProbedLimit = 4 * kLinearLimit;
constexpr double kOtherLimit = 1e-5;
// Beyond kLinearLimit: of the sum of its terms' magnitudes, times the root of
// their number. So much rounding adds up to in a sum of float32 but for a
// vanishing probability (Higham and Mary, A new approach to probabilistic
// rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019, with lambda 2).
constexpr double kSumLimit = 2 * 0x1p-24;
// An angle is a product of a position and a frequency, both in float32.
constexpr double kAngleLimit = 1.2e-7;
// Beyond kOtherLimit: a score is off by so much of |q| |k|, and a probability
// by what its score is off by.
constexpr double kScoreLimit = 1.2e-7;
// Beyond kOtherLimit: GELU is x times half of 1 + tanh (or erf), which near -1
// cancels, so that it is off by so much of x however small it is. XNNPACK's is
// by 2.6 * 2^-24 at most.
constexpr double kGeluLimit = 4 * 0x1p-24;
// Caches of fewer bits hold rounded numbers.
constexpr double kHalfCacheLimit = 1e-3;
constexpr double kInt8CacheLimit = 0.05;

// Ends a pass of the reference.
struct End {};
// Of the root mean square of a row: what the reference's own float32 adds to an
// integer's steps.
constexpr double kRowRounding = 1e-5;
// Of formulas that read tables of integers: these are rounded themselves.
constexpr double kRoundedTableLimit = 1e-2;
// What float32 makes of an integer that is handed on as it is.
constexpr double kLeastSteps = 0.01;

struct Row {
  const Snapshot* snapshot;
  int64_t index;
  int64_t position() const { return snapshot->begin + index; }
  bool probed() const {
    return index >= snapshot->probed_begin && index < snapshot->probed_end;
  }
};

// The stage that a product reads.
std::optional<Stage> InputOf(Stage stage) {
  switch (stage) {
    case Stage::kQueryProjection:
    case Stage::kKeyProjection:
    case Stage::kValueProjection:
    case Stage::kLaurelLeft:
    case Stage::kConvProjection:
      return Stage::kInputNorm;
    case Stage::kAttentionOutput:
      return Stage::kAttention;
    case Stage::kGateProjection:
    case Stage::kUpProjection:
    case Stage::kRouter:
    case Stage::kExpertGate:
    case Stage::kExpertUp:
    case Stage::kSharedScale:
      return Stage::kMlpNorm;
    case Stage::kExpertOutput:
      return Stage::kExpertInner;
    case Stage::kMlpOutput:
      return Stage::kMlpInner;
    case Stage::kPerLayerModelProjection:
    case Stage::kStreamProjection:
      return Stage::kEmbedding;
    case Stage::kPredictionRouter:
      return Stage::kPredictionInput;
    case Stage::kPredictionCoefficients:
      return Stage::kPredictionModalities;
    case Stage::kCorrectionRouter:
      return Stage::kCorrectionInput;
    case Stage::kCorrectionCoefficients:
      return Stage::kCorrectionModalities;
    case Stage::kLaurelRight:
      return Stage::kLaurelLeft;
    case Stage::kStreamOutput:
      return Stage::kStreamInput;
    case Stage::kPerLayerGate:
      return Stage::kAfterMlp;
    case Stage::kPerLayerOutput:
      return Stage::kPerLayerInner;
    case Stage::kHead:
      return Stage::kFinalNorm;
    default:
      return UnrotatedOf(stage);
  }
}

double Norm(std::span<const float> values) {
  double squares = 0;
  for (const float value : values) squares += double{value} * value;
  return std::sqrt(squares);
}

// A row of a product's output in the order and scale of the stage. False where
// the product does not hold all of `part`.
bool OutputRow(const Product& product, Part part, std::span<const float> from,
               std::span<float> out) {
  int64_t column = 0;
  int64_t taken = 0;
  for (const Product::Columns& columns : product.columns) {
    const int64_t begin = std::exchange(column, column + columns.count);
    if (columns.part != part) continue;
    if (column > std::ssize(from) ||
        columns.first + columns.count > std::ssize(out)) {
      return false;
    }
    for (int64_t i = 0; i < columns.count; ++i) {
      out[static_cast<size_t>(columns.first + i)] = static_cast<float>(
          from[static_cast<size_t>(begin + i)] / product.factor);
    }
    taken += columns.count;
  }
  return taken == std::ssize(out);
}

bool InputRow(const Product& product, std::span<const float> from,
              std::span<float> out) {
  if (from.size() != out.size()) return false;
  std::copy(from.begin(), from.end(), out.begin());
  if (product.input_scale.size() != out.size()) return true;
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = product.input_scale[i] * out[i] + product.input_offset[i];
  }
  return true;
}

// How far something is from what it is to be, and may be.
struct Agreement {
  double error = 0;
  double limit = 1;
  bool steps = false;  // as StageResult::steps
  double ratio() const { return error / limit; }
  bool ok() const { return error <= limit; }
};

class StageComparer {
 public:
  StageComparer(const ComparisonInput& input, Reference& reference,
                std::vector<KeyRow>* wrong_keys, RangeUses* ranges)
      : input_(input),
        reference_(reference),
        wrong_keys_(wrong_keys),
        ranges_(ranges) {}

  StageResults Run() {
    std::deque<Sequence> sequences;
    std::vector<Reference::Item> items;
    for (const Snapshot* s : input_.snapshots) {
      Sequence& sequence = sequences.emplace_back(reference_.NewSequence());
      if (s->begin > 0) Restore(*s, sequence);
      items.push_back({&sequence, s->tokens, LogitRows(*s), s->probed_begin,
                       s->probed_end});
      for (int64_t i = 0; i < std::ssize(s->tokens); ++i) {
        rows_.push_back({s, i});
        if (i >= std::ssize(s->tokens) - LogitRows(*s)) {
          last_rows_.push_back({s, i});
        }
      }
    }
    try {
      reference_.Score(
          items,
          [&](size_t item, int64_t row, std::span<const float> logits) {
            CompareLogits({input_.snapshots[item], row}, logits);
          },
          [&](const Captured& captured) {
            if (input_.last_layer && IsBehind(captured, *input_.last_layer)) {
              throw End{};
            }
            Exchange(captured);
          });
    } catch (const End&) {
    }
    return std::move(results_);
  }

 private:
  static bool IsBehind(const Captured& captured, int64_t layer) {
    if (!IsOfStream(captured.stage)) return captured.layer > layer;
    return captured.stage != Stage::kStreamProjection;
  }

  // From the first row with logits on.
  static int64_t LogitRows(const Snapshot& s) {
    const auto first =
        std::find_if(s.logits.begin(), s.logits.end(),
                     [](const auto& row) { return !row.empty(); });
    return s.logits.end() - first;
  }

  // What has left a ring is hidden by the window.
  void Restore(const Snapshot& s, Sequence& sequence) const {
    const auto& layers = input_.recording.caches[s.before];
    const int64_t begin = s.begin;
    sequence.RestoreByLayer(
        begin, [&layers, &s, begin](int64_t layer, std::vector<float>& keys,
                                    std::vector<float>& values) {
          const auto state = s.states_before.find(layer);
          if (state != s.states_before.end()) {
            keys = state->second.values;
            return;
          }
          const KvRows& rows = layers[static_cast<size_t>(layer)];
          const auto width = static_cast<size_t>(rows.heads * rows.head_dim);
          const int64_t first = std::min(rows.first, begin);
          const auto count =
              static_cast<size_t>(std::min(rows.length, begin - first)) * width;
          const auto restored = [&](const std::vector<float>& from) {
            std::vector<float> all(static_cast<size_t>(begin) * width);
            std::copy_n(from.begin(), count,
                        all.begin() + first * static_cast<int64_t>(width));
            return all;
          };
          keys = restored(rows.keys);
          values = restored(rows.values);
        });
  }

  void Exchange(const Captured& captured) {
    const bool last = captured.stage == Stage::kFinalNorm ||
                      captured.stage == Stage::kRotatedFinalNorm ||
                      captured.stage == Stage::kHead;
    const std::vector<Row>& all = last ? last_rows_ : rows_;
    // The stages of the head come in parts.
    const auto first = std::exchange(
        next_[captured.stage],
        last ? next_[captured.stage] + static_cast<size_t>(captured.rows) : 0);
    const auto width = static_cast<size_t>(captured.width);
    for (size_t i = 0; i < static_cast<size_t>(captured.rows); ++i) {
      ExchangeRow(captured, all[first + i], i,
                  captured.values.subspan(i * width, width));
    }
    if (captured.stage == Stage::kKeyProjection ||
        captured.stage == Stage::kKeyNorm) {
      keys_.assign(captured.values.begin(), captured.values.end());
    }
    if (captured.stage == Stage::kRouter) {
      router_.assign(captured.values.begin(), captured.values.end());
    }
    // Which another product reads, or a limit follows from.
    const bool is_read =
        captured.stage == Stage::kLaurelLeft || IsActivated(captured);
    if (IsLinear(captured.stage) && !is_read) return;
    kept_[captured.stage].assign(captured.values.begin(),
                                 captured.values.end());
    if (const auto rotated = RotatedOf(captured.stage)) kept_.erase(*rotated);
    if (captured.stage == Stage::kPerLayerEntry) {
      kept_[Stage::kAfterMlp] = kept_[Stage::kPerLayerEntry];
    }
    if (captured.stage == Stage::kConvGated) {
      // What gives kAttentionOutput reads it.
      kept_[Stage::kAttention] = kept_[Stage::kConvGated];
      kept_.erase(Stage::kRotatedAttention);
    }
    if (captured.stage == Stage::kInputNorm) {
      // What the MLP reads where it has no norm of its own.
      kept_[Stage::kMlpNorm] = kept_[Stage::kInputNorm];
      kept_.erase(Stage::kRotatedMlpNorm);
    }
  }

  void ExchangeRow(const Captured& captured, const Row& row, size_t pass_row,
                   std::span<float> values) {
    const bool probed = captured.without_probed && row.probed();
    // Nothing of the candidate's to go on with.
    const auto compute = [&] {
      if (probed) Compute(captured, pass_row, values);
    };
    const SignatureGraph* graph = row.snapshot->graph;
    const auto anchors = input_.anchors.find(graph->signature);
    if (anchors == input_.anchors.end()) return compute();
    const StageKey key = {captured.stage, captured.layer, captured.expert};
    const auto found = anchors->second.find(key);
    if (found == anchors->second.end()) return compute();
    const Anchor& anchor = found->second;
    if (anchor.kind == Anchor::Kind::kColumns) {
      return ExchangeColumns(anchor, captured, row, pass_row, values);
    }
    if (IsOfIntegers(*graph, anchor)) {
      return ExchangeIntegers(anchor, captured, row, pass_row, values);
    }
    std::vector<float> nearest;
    std::vector<float> taken(values.size());
    double error = 0;
    int32_t tensor = -1;
    const bool rectified = IsRectified(anchor, captured.stage);
    if (rectified) Rectify(values);
    for (const int32_t candidate : anchor.tensors) {
      if (!Take(anchor, candidate, captured, row, taken)) continue;
      const double other = probed ? ProbeError(captured, pass_row, taken)
                                  : RowError(values, taken);
      if (tensor >= 0 && !(other < error)) continue;
      error = other;
      tensor = candidate;
      nearest = taken;
    }
    if (tensor < 0) return compute();
    double limit =
        probed ? kProbedLimit : LimitOf(captured.stage, row.position());
    if (error > limit && InputOf(captured.stage)) {
      if (probed) error = std::numeric_limits<double>::infinity();
      limit = LimitOf(captured.stage, row.position());
      LookAgain(captured, pass_row, nearest, rectified, error, limit);
    }
    if (error > limit && captured.stage == Stage::kAttention) {
      limit = std::max(limit, ScoreLimit(captured, row, pass_row));
    }
    if (error > limit && captured.stage == Stage::kMlpInner) {
      limit = std::max(limit, CutoffLimit(captured, pass_row, nearest));
    }
    if (error > limit && IsGelu()) {
      const auto [x, factor] = GateOf(captured, pass_row);
      limit = std::max(limit, GeluLimit(x, factor, values));
    }
    if (error > limit && captured.stage == Stage::kKey) {
      KeepKeys(captured.layer, row, pass_row, nearest);
    }
    Record({graph, key}, row, tensor, {error, limit});
    // What is written to a cache of fewer bits is used before it is rounded.
    if (anchor.kind == Anchor::Kind::kKvCache && input_.kv_type != "FLOAT32") {
      return;
    }
    std::copy(nearest.begin(), nearest.end(), values.begin());
  }

  // Weights of experts, each a tensor of its own. Where the candidate takes
  // others whose scores are equal but for rounding, its choice is as good.
  void ExchangeColumns(const Anchor& anchor, const Captured& captured,
                       const Row& row, size_t pass_row,
                       std::span<float> values) {
    std::vector<float> taken(values.size());
    for (size_t i = 0; i < taken.size(); ++i) {
      const auto found = row.snapshot->tensors.find(anchor.tensors[i]);
      if (found == row.snapshot->tensors.end() ||
          found->second.size() != row.snapshot->tokens.size()) {
        return;
      }
      taken[i] = found->second[static_cast<size_t>(row.index)];
    }
    double error = RowError(values, taken);
    if (error > kOtherLimit &&
        router_.size() >= (pass_row + 1) * taken.size()) {
      const auto tied = WeightsOfTie(
          input_.config.experts, reference_.ChoiceBias(captured.layer),
          std::span(router_).subspan(pass_row * taken.size(), taken.size()),
          taken);
      if (tied) error = RowError(*tied, taken);
    }
    const StageOf stage = {row.snapshot->graph,
                           {captured.stage, captured.layer}};
    Record(stage, row, anchor.tensors.front(), {error, kOtherLimit});
    results_[stage].tensors.insert(anchor.tensors.begin(),
                                   anchor.tensors.end());
    std::ranges::copy(taken, values.begin());
  }

  // Whether the file's product holds what the first half of the activation,
  // ReLU, makes of it.
  bool IsRectified(const Anchor& anchor, Stage stage) const {
    const Stage activated =
        input_.config.gated_mlp ? Stage::kGateProjection : Stage::kUpProjection;
    return anchor.kind == Anchor::Kind::kOutput && anchor.product->rectified &&
           input_.config.activation == Activation::kRelu2 && stage == activated;
  }
  template <typename Value>
  static void Rectify(std::span<Value> values) {
    for (Value& value : values) value = std::max(value, Value{0});
  }

  const tflite::Graph& GraphOf(const SignatureGraph& graph) const {
    return input_.file.graphs[static_cast<size_t>(graph.graph)];
  }
  std::optional<TensorRange> RangeOfTensor(const SignatureGraph& graph,
                                           int32_t tensor) const {
    return RangeOf(GraphOf(graph).tensors[static_cast<size_t>(tensor)]);
  }

  // What the graph goes on with is rounded there.
  bool IsOfIntegers(const SignatureGraph& graph, const Anchor& anchor) const {
    if (!graph.integer_activations) return false;
    return std::ranges::any_of(anchor.tensors, [&](int32_t tensor) {
      return RangeOfTensor(graph, tensor).has_value();
    });
  }

  void ExchangeIntegers(const Anchor& anchor, const Captured& captured,
                        const Row& row, size_t pass_row,
                        std::span<float> values) {
    std::vector<float> nearest, taken(values.size());
    std::optional<Agreement> best;
    int32_t tensor = -1;
    for (const int32_t candidate : anchor.tensors) {
      if (!RangeOfTensor(*row.snapshot->graph, candidate) ||
          !Take(anchor, candidate, captured, row, taken)) {
        continue;
      }
      const auto agreement =
          CompareIntegers(anchor, candidate, captured, row, values, taken);
      const bool better =
          tensor < 0 ||
          (agreement && (!best || agreement->ratio() < best->ratio()));
      if (!better) continue;
      best = agreement;
      tensor = candidate;
      nearest = taken;
    }
    if (tensor < 0) return;
    const StageOf stage = {row.snapshot->graph,
                           {captured.stage, captured.layer, captured.expert}};
    if (best) {
      Record(stage, row, tensor, *best);
      if (captured.stage == Stage::kKey && !best->ok()) {
        // Without their rounding, if that can be.
        const auto formula = FormulaRowOf(anchor, tensor, row, values.size());
        KeepKeys(captured.layer, row, pass_row,
                 formula && !formula->opaque ? formula->exact : nearest);
      }
      AddRange(anchor, tensor, row, values);
    } else {
      results_[stage].not_compared.insert(tensor);
    }
    std::copy(nearest.begin(), nearest.end(), values.begin());
  }

  // Numbers of a tensor in the units of the stage.
  static bool ToStage(const Anchor& anchor, std::span<const float> from,
                      std::span<float> out) {
    if (anchor.kind == Anchor::Kind::kOutput) {
      return OutputRow(*anchor.product, anchor.part, from, out);
    }
    if (anchor.kind == Anchor::Kind::kInput) {
      return InputRow(*anchor.product, from, out);
    }
    if (from.size() != out.size()) return false;
    std::copy(from.begin(), from.end(), out.begin());
    return true;
  }

  // One row of what GraphFormula yields, in the units of the stage.
  struct FormulaRow {
    bool opaque = false;
    bool rounded_table = false;
    std::vector<float> exact, clipped, error, step, low, high;
  };

  std::optional<FormulaRow> FormulaRowOf(const Anchor& anchor, int32_t tensor,
                                         const Row& row, size_t width) {
    const SignatureGraph& graph = *row.snapshot->graph;
    const auto range = RangeOfTensor(graph, tensor);
    const Numbers* numbers = FormulaOf(anchor, tensor, *row.snapshot);
    if (!range || numbers == nullptr) return std::nullopt;
    const auto places = PlacesOf(anchor, tensor, *numbers, row);
    if (places.empty()) return std::nullopt;
    FormulaRow result;
    result.opaque = numbers->opaque;
    result.rounded_table = numbers->rounded_table;
    std::vector<float> raw(places.size());
    std::vector<float> zero(width);
    if (!ToStage(anchor, raw, zero)) return std::nullopt;
    const auto take = [&](auto&& value, bool size, std::vector<float>& out) {
      for (size_t i = 0; i < raw.size(); ++i) {
        raw[i] = static_cast<float>(value(places[i]));
      }
      out.resize(width);
      ToStage(anchor, raw, out);
      for (size_t i = 0; size && i < width; ++i) {
        out[i] = std::fabs(out[i] - zero[i]);
      }
    };
    const auto of = [](const std::vector<double>& values) {
      return [&values](size_t place) { return values[place]; };
    };
    const auto all = [](double value) {
      return [value](size_t) { return value; };
    };
    take(of(numbers->error), true, result.error);
    take(all(range->step), true, result.step);
    take(all(range->low), false, result.low);
    take(all(range->high), false, result.high);
    for (size_t i = 0; i < width; ++i) {
      if (result.low[i] > result.high[i]) {
        std::swap(result.low[i], result.high[i]);
      }
    }
    if (result.opaque) return result;
    take(of(numbers->exact), false, result.exact);
    take(of(numbers->clipped), false, result.clipped);
    return result;
  }

  // Of one snapshot and tensor, kept while the pass is at one stage.
  const Numbers* FormulaOf(const Anchor& anchor, int32_t tensor,
                           const Snapshot& s) {
    const tflite::Graph& graph = GraphOf(*s.graph);
    if (anchor.kind == Anchor::Kind::kKvCache) {
      const int32_t producer =
          graph.tensors[static_cast<size_t>(tensor)].producer;
      if (producer < 0) return nullptr;
      const tflite::Op& op = graph.ops[static_cast<size_t>(producer)];
      if (op.code != tflite::kOpDynamicUpdateSlice || op.inputs.size() < 2) {
        return nullptr;
      }
      tensor = op.inputs[1];
    }
    const auto [entry, is_new] = formulas_.try_emplace({&s, tensor});
    if (is_new) {
      entry->second = GraphFormula(input_.file, graph)
                          .Evaluate(tensor, KnownOf(s), RangesOf(s));
    }
    return entry->second ? &*entry->second : nullptr;
  }

  GraphFormula::KnownFn KnownOf(const Snapshot& s) {
    auto [entry, is_new] = positions_.try_emplace(&s);
    if (is_new) {
      entry->second.first = FindPositionPart(GraphOf(*s.graph)).input;
      for (int64_t i = 0; i < std::ssize(s.tokens); ++i) {
        entry->second.second.push_back(static_cast<float>(s.begin + i));
      }
    }
    const auto* positions = &entry->second;
    return [&s, positions](int32_t tensor) -> const std::vector<float>* {
      if (tensor == positions->first) return &positions->second;
      const auto found = s.tensors.find(tensor);
      return found == s.tensors.end() ? nullptr : &found->second;
    };
  }

  GraphFormula::RangeFn RangesOf(const Snapshot& s) {
    if (ranges_ == nullptr || !s.real_text) return nullptr;
    return [this, &s](int32_t tensor, const Numbers& numbers) {
      const auto range = RangeOfTensor(*s.graph, tensor);
      if (!range) return;
      for (size_t i = 0; i < numbers.exact.size(); ++i) {
        AddValue(*s.graph, tensor, *range, numbers.exact[i],
                 numbers.clipped[i]);
      }
    };
  }

  void AddValue(const SignatureGraph& graph, int32_t tensor,
                const TensorRange& range, double value, double kept) {
    RangeUse& use = (*ranges_)[{&graph, tensor}];
    use.range = range;
    use.least = std::min(use.least, value);
    use.most = std::max(use.most, value);
    ++use.values;
    use.outside += std::fabs(value - kept) > range.step;
    use.squares += value * value;
    use.lost_squares += (value - kept) * (value - kept);
  }

  // What the reference gives, of a product or of attention: a tensor that no
  // formula was told of.
  void AddRange(const Anchor& anchor, int32_t tensor, const Row& row,
                std::span<const float> values) {
    if (ranges_ == nullptr || !row.snapshot->real_text) return;
    const auto formula = FormulaRowOf(anchor, tensor, row, values.size());
    if (!formula || !formula->opaque) return;
    auto range = *RangeOfTensor(*row.snapshot->graph, tensor);
    for (size_t i = 0; i < values.size(); ++i) {
      const float kept =
          std::clamp(values[i], formula->low[i], formula->high[i]);
      // In the tensor's own units.
      const double factor =
          formula->step[i] > 0 ? range.step / formula->step[i] : 1;
      AddValue(*row.snapshot->graph, tensor, range, factor * values[i],
               factor * kept);
    }
  }

  // Where a row's numbers are in the tensor; nothing where that is not known.
  std::vector<size_t> PlacesOf(const Anchor& anchor, int32_t tensor,
                               const Numbers& numbers, const Row& row) const {
    if (anchor.kind == Anchor::Kind::kKvCache) {
      return CachePlaces(tensor, numbers, row);
    }
    const auto tokens = std::ssize(row.snapshot->tokens);
    const auto size = std::ssize(numbers.error);
    if (size == 0 || numbers.shape.empty()) return {};
    const bool of_head =
        anchor.product != nullptr && anchor.product->role.part == Part::kHead;
    const int64_t rows = of_head ? size / numbers.shape.back() : tokens;
    const int64_t index = row.index - (tokens - rows);
    if (size % rows != 0 || index < 0) return {};
    std::vector<size_t> places(static_cast<size_t>(size / rows));
    for (size_t i = 0; i < places.size(); ++i) {
      places[i] = static_cast<size_t>(index) * places.size() + i;
    }
    return places;
  }

  // Heads come before their numbers in every layout (kv_rows.h).
  std::vector<size_t> CachePlaces(int32_t cache, const Numbers& update,
                                  const Row& row) const {
    const auto& whole =
        GraphOf(*row.snapshot->graph).tensors[static_cast<size_t>(cache)].shape;
    const std::vector<int64_t>& shape = update.shape;
    const auto tokens = std::ssize(row.snapshot->tokens);
    if (shape.size() != whole.size() || shape.empty()) return {};
    size_t axis = shape.size();
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] != whole[i]) axis = i;
    }
    if (axis == shape.size() || shape[axis] != tokens) return {};
    int64_t behind = 1;
    for (size_t i = axis + 1; i < shape.size(); ++i) behind *= shape[i];
    const int64_t before = std::ssize(update.error) / (tokens * behind);
    std::vector<size_t> places;
    for (int64_t i = 0; i < before; ++i) {
      for (int64_t j = 0; j < behind; ++j) {
        places.push_back(
            static_cast<size_t>((i * tokens + row.index) * behind + j));
      }
    }
    return places;
  }

  std::optional<Agreement> CompareIntegers(const Anchor& anchor, int32_t tensor,
                                           const Captured& captured,
                                           const Row& row,
                                           std::span<const float> expected,
                                           std::span<const float> found) {
    const StageKey at = {captured.stage, captured.layer, captured.expert};
    if (std::exchange(formulas_at_, at) != at) formulas_.clear();
    const auto formula = FormulaRowOf(anchor, tensor, row, found.size());
    if (!formula) return std::nullopt;
    Agreement worst = {0, 1, true};
    const double rounding =
        formula->opaque ? kRowRounding * Norm(expected) /
                              std::sqrt(static_cast<double>(expected.size()))
                        : 0;
    for (size_t i = 0; i < found.size(); ++i) {
      const double value =
          formula->opaque
              ? std::clamp(expected[i], formula->low[i], formula->high[i])
              : formula->clipped[i];
      const Agreement one = {
          std::fabs(found[i] - value) / formula->step[i],
          (formula->error[i] + rounding) / formula->step[i] + kLeastSteps,
          true};
      if (!(one.ratio() <= worst.ratio())) worst = one;
    }
    if (formula->opaque) return worst;
    double limit = formula->rounded_table ? kRoundedTableLimit : kOtherLimit;
    if (captured.stage == Stage::kKey || captured.stage == Stage::kQuery) {
      limit += kAngleLimit * static_cast<double>(row.position());
    }
    const Agreement graph = {RowError(expected, formula->exact), limit, false};
    return graph.ratio() > worst.ratio() ? graph : worst;
  }

  void KeepKeys(int64_t layer, const Row& row, size_t pass_row,
                const std::vector<float>& after) {
    const size_t width = after.size();
    if (wrong_keys_ == nullptr || keys_.size() < (pass_row + 1) * width) return;
    const auto from = keys_.begin() + static_cast<int64_t>(pass_row * width);
    wrong_keys_->push_back({layer,
                            row.position(),
                            {from, from + static_cast<int64_t>(width)},
                            after});
  }

  // The candidate's row of the stage; false where the tensor does not have it.
  bool Take(const Anchor& anchor, int32_t tensor, const Captured& captured,
            const Row& row, std::span<float> out) const {
    if (anchor.kind == Anchor::Kind::kKvCache) {
      return CachedRow(captured, row, out);
    }
    if (anchor.kind == Anchor::Kind::kState) {
      return StateRow(captured, row, out);
    }
    std::span<const float> from;
    const auto found = row.snapshot->tensors.find(tensor);
    if (found != row.snapshot->tensors.end()) {
      const size_t width = found->second.size() / row.snapshot->tokens.size();
      from = std::span(found->second)
                 .subspan(static_cast<size_t>(row.index) * width, width);
    } else if (captured.stage == Stage::kHead) {
      from = LogitsOf(row);  // an output already, and so no tap
    }
    if (anchor.kind == Anchor::Kind::kOutput) {
      return OutputRow(*anchor.product, anchor.part, from, out);
    }
    if (anchor.kind == Anchor::Kind::kInput) {
      return InputRow(*anchor.product, from, out);
    }
    if (from.size() != out.size()) return false;
    std::copy(from.begin(), from.end(), out.begin());
    return true;
  }

  bool CachedRow(const Captured& captured, const Row& row,
                 std::span<float> out) const {
    const KvRows& cached =
        input_.recording
            .caches[row.snapshot->after][static_cast<size_t>(captured.layer)];
    const int64_t index = row.position() - cached.first;
    const auto width = std::ssize(out);
    if (index < 0 || index >= cached.length ||
        width != cached.heads * cached.head_dim) {
      return false;
    }
    const std::vector<float>& from =
        captured.stage == Stage::kKey ? cached.keys : cached.values;
    std::copy_n(from.begin() + index * width, width, out.begin());
    return true;
  }

  static bool StateRow(const Captured& captured, const Row& row,
                       std::span<float> out) {
    const Snapshot& s = *row.snapshot;
    const auto state = s.states_after.find(captured.layer);
    if (state == s.states_after.end() ||
        row.index + 1 != std::ssize(s.tokens) ||
        state->second.values.size() != out.size()) {
      return false;
    }
    std::ranges::copy(state->second.values, out.begin());
    return true;
  }

  static std::span<const float> LogitsOf(const Row& row) {
    return row.snapshot->logits[static_cast<size_t>(row.index)];
  }

  // What the pass has gone on with before a product: a row of its input.
  struct ProductInput {
    std::span<const float> x;
    bool is_rotated = false;
  };
  std::optional<ProductInput> ProductInputOf(const Captured& captured,
                                             size_t pass_row) const {
    const Stage input = *InputOf(captured.stage);
    auto kept = kept_.end();
    if (!UnrotatedOf(captured.stage) && RotatedOf(input)) {
      kept = kept_.find(*RotatedOf(input));
    }
    const bool is_rotated = kept != kept_.end();
    if (!is_rotated) kept = kept_.find(input);
    if (kept == kept_.end()) return std::nullopt;
    const std::vector<float>& inputs = kept->second;
    const size_t width = inputs.size() / static_cast<size_t>(captured.rows);
    return ProductInput{std::span(inputs).subspan(pass_row * width, width),
                        is_rotated};
  }

  double ProbeError(const Captured& captured, size_t pass_row,
                    std::span<const float> found) const {
    const auto input = ProductInputOf(captured, pass_row);
    if (!input) return std::numeric_limits<double>::infinity();
    return reference_.Probe(captured.stage, captured.layer, input->x,
                            input->is_rotated, found, captured.expert);
  }

  void Compute(const Captured& captured, size_t pass_row,
               std::span<float> values) const {
    const auto input = ProductInputOf(captured, pass_row);
    if (!input) throw Error("{} has no input", NameOf(captured.stage));
    const Reference::PreciseRow precise =
        reference_.Multiply(captured.stage, captured.layer, input->x,
                            input->is_rotated, captured.expert);
    std::transform(precise.values.begin(), precise.values.end(), values.begin(),
                   [](double value) { return static_cast<float>(value); });
  }

  // The product once more, in float64: the reference's own rounding is out of
  // it, and what the candidate's sums may be off by is known.
  void LookAgain(const Captured& captured, size_t pass_row,
                 std::span<const float> found, bool rectified, double& error,
                 double& limit) const {
    const auto input = ProductInputOf(captured, pass_row);
    if (!input) return;
    Reference::PreciseRow precise =
        reference_.Multiply(captured.stage, captured.layer, input->x,
                            input->is_rotated, captured.expert);
    if (rectified) Rectify(std::span(precise.values));
    double difference = 0;
    double size = 0;
    double magnitude = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      const double d = found[i] - precise.values[i];
      difference += d * d;
      size += precise.values[i] * precise.values[i];
      magnitude += precise.magnitudes[i] * precise.magnitudes[i];
    }
    if (!(size > 0)) return;
    error = std::min(error, std::sqrt(difference / size));
    const auto terms = static_cast<double>(input->x.size());
    limit = std::max(limit, kSumLimit * std::sqrt(terms * magnitude / size));
  }

  // How far rounding of scores may take a row of attention.
  double ScoreLimit(const Captured& captured, const Row& row,
                    size_t pass_row) const {
    const auto kept = kept_.find(Stage::kQuery);
    if (kept == kept_.end()) return 0;
    const LayerConfig& layer =
        input_.config.layers[static_cast<size_t>(captured.layer)];
    const int64_t source =
        layer.kv_source < 0 ? captured.layer : layer.kv_source;
    const KvRows& cached =
        input_.recording
            .caches[row.snapshot->after][static_cast<size_t>(source)];
    const auto size = static_cast<size_t>(layer.head_dim);
    const size_t width =
        kept->second.size() / static_cast<size_t>(captured.rows);
    const auto longest = [size](std::span<const float> heads) {
      double most = 0;
      for (size_t i = 0; i + size <= heads.size(); i += size) {
        most = std::max(most, Norm(heads.subspan(i, size)));
      }
      return most;
    };
    const double query =
        longest(std::span(kept->second).subspan(pass_row * width, width));
    return kScoreLimit * input_.config.attention_scale * query *
           longest(cached.keys);
  }

  bool IsGelu() const {
    return input_.config.activation == Activation::kGeluTanh ||
           input_.config.activation == Activation::kGelu;
  }

  // Whether a limit of what an activation makes of it follows from it.
  bool IsActivated(const Captured& captured) const {
    switch (captured.stage) {
      case Stage::kGateProjection:
      case Stage::kUpProjection:
        return IsGelu() ||
               input_.config.layers[static_cast<size_t>(captured.layer)]
                       .sparsity > 0;
      case Stage::kExpertGate:
      case Stage::kExpertUp:
      case Stage::kPerLayerGate:
        return IsGelu();
      default:
        return false;
    }
  }

  // What the activation before a stage applies to, and what the result is
  // multiplied with; empty where there is none.
  struct Gate {
    std::span<const float> x;
    std::span<const float> factor;
  };
  Gate GateOf(const Captured& captured, size_t pass_row) const {
    const auto width = static_cast<size_t>(captured.width);
    const auto row_of = [&](Stage stage, size_t first = 0) {
      const auto kept = kept_.find(stage);
      if (kept == kept_.end()) return std::span<const float>();
      const size_t row =
          kept->second.size() / static_cast<size_t>(captured.rows);
      return std::span(kept->second).subspan(pass_row * row + first, width);
    };
    switch (captured.stage) {
      case Stage::kMlpInner:
        if (!input_.config.gated_mlp) return {row_of(Stage::kUpProjection), {}};
        return {row_of(Stage::kGateProjection), row_of(Stage::kUpProjection)};
      case Stage::kExpertInner:
        return {row_of(Stage::kExpertGate), row_of(Stage::kExpertUp)};
      case Stage::kPerLayerInner:
        return {row_of(Stage::kPerLayerGate),
                row_of(Stage::kPerLayerInputs,
                       static_cast<size_t>(captured.layer) * width)};
      default:
        return {};
    }
  }

  // How far rounding of the cutoff may take what is left above it: mean and
  // deviation are sums over the row, and what is left may be much smaller.
  double CutoffLimit(const Captured& captured, size_t pass_row,
                     std::span<const float> found) const {
    if (input_.config.layers[static_cast<size_t>(captured.layer)].sparsity ==
        0) {
      return 0;
    }
    const size_t width = found.size();
    const auto [gate, up] = GateOf(captured, pass_row);
    if (gate.empty() || up.empty()) return 0;
    double largest = 0;
    double squares = 0;
    for (size_t i = 0; i < width; ++i) {
      largest = std::max(largest, std::fabs(double{gate[i]}));
      if (found[i] != 0) squares += double{up[i]} * up[i];
    }
    const double size = Norm(found);
    if (!(size > 0)) return 0;
    // Of a number and of the cutoff.
    return 2 * kSumLimit * std::sqrt(static_cast<double>(width)) * largest *
           std::sqrt(squares) / size;
  }

  void CompareLogits(const Row& row, std::span<const float> logits) {
    const std::span<const float> found = LogitsOf(row);
    if (found.size() != logits.size()) return;
    const StageOf stage = {row.snapshot->graph, {Stage::kHead, -1}, true};
    // Soft-capping in integers. Without it the head's output is both.
    if (row.snapshot->graph->integer_activations &&
        input_.config.logit_softcap.has_value()) {
      results_[stage].not_compared.insert(-1);
      return;
    }
    Record(stage, row, -1, {RowError(logits, found), kOtherLimit});
  }

  void Record(const StageOf& stage, const Row& row, int32_t tensor,
              const Agreement& agreement) {
    StageResult& result = results_[stage];
    result.tensors.insert(tensor);
    const bool worse = result.rows++ == 0 ||
                       !(agreement.ratio() <= result.error / result.limit);
    if (!worse) return;
    result.error = agreement.error;
    result.limit = agreement.limit;
    result.steps = agreement.steps;
    result.position = row.position();
    result.tensor = tensor;
  }

  double LimitOf(Stage stage, int64_t position) const {
    if (IsLinear(stage) || UnrotatedOf(stage)) return kLinearLimit;
    if (stage != Stage::kKey && stage != Stage::kValue) return kOtherLimit;
    if (input_.kv_type == "INT8") return kInt8CacheLimit;
    if (input_.kv_type == "FLOAT16") return kHalfCacheLimit;
    return kOtherLimit + (stage == Stage::kKey
                              ? kAngleLimit * static_cast<double>(position)
                              : 0);
  }

  const ComparisonInput& input_;
  Reference& reference_;
  std::vector<KeyRow>* wrong_keys_;
  RangeUses* ranges_;
  StageKey formulas_at_;  // the stage that these are of
  std::map<std::pair<const Snapshot*, int32_t>, std::optional<Numbers>>
      formulas_;
  // The tensor of a snapshot's positions, and these.
  std::map<const Snapshot*, std::pair<int32_t, std::vector<float>>> positions_;
  std::vector<float> keys_;     // of the current layer, before RoPE
  std::vector<float> router_;   // of the current layer
  std::vector<Row> rows_;       // of the pass
  std::vector<Row> last_rows_;  // those with logits
  std::map<Stage, size_t> next_;
  // What the pass has gone on with, of the current layer.
  std::map<Stage, std::vector<float>> kept_;
  StageResults results_;
};

}  // namespace

double RowError(std::span<const float> expected, std::span<const float> found) {
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = double{found[i]} - expected[i];
    difference += d * d;
    size += double{expected[i]} * expected[i];
  }
  if (difference == 0) return 0;
  const double error = std::sqrt(difference / size);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

double GeluLimit(std::span<const float> x, std::span<const float> factor,
                 std::span<const float> expected) {
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double term = double{x[i]} * (factor.empty() ? 1.0f : factor[i]);
    squares += term * term;
  }
  const double size = Norm(expected);
  return size > 0 ? kGeluLimit * std::sqrt(squares) / size : 0;
}

StageResults CompareStages(const ComparisonInput& input, Reference& reference,
                           std::vector<KeyRow>* wrong_keys, RangeUses* ranges) {
  return StageComparer(input, reference, wrong_keys, ranges).Run();
}

}  // namespace verify_tflite
