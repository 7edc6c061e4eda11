#include "structure/stage_comparison.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <optional>

#include "base/error.h"

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
// Caches of fewer bits hold rounded numbers.
constexpr double kHalfCacheLimit = 1e-3;
constexpr double kInt8CacheLimit = 0.05;

// Ends a pass of the reference.
struct End {};

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
      return Stage::kInputNorm;
    case Stage::kAttentionOutput:
      return Stage::kAttention;
    case Stage::kGateProjection:
    case Stage::kUpProjection:
      return Stage::kMlpNorm;
    case Stage::kMlpOutput:
      return Stage::kMlpInner;
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

class StageComparer {
 public:
  StageComparer(const ComparisonInput& input, Reference& reference,
                std::vector<KeyRow>* wrong_keys)
      : input_(input), reference_(reference), wrong_keys_(wrong_keys) {}

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
            if (input_.last_layer && captured.layer > *input_.last_layer) {
              throw End{};
            }
            Exchange(captured);
          });
    } catch (const End&) {
    }
    return std::move(results_);
  }

 private:
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
        begin, [&layers, begin](int64_t layer, std::vector<float>& keys,
                                std::vector<float>& values) {
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
    if (IsLinear(captured.stage)) return;
    kept_[captured.stage].assign(captured.values.begin(),
                                 captured.values.end());
    if (const auto rotated = RotatedOf(captured.stage)) kept_.erase(*rotated);
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
    const auto found = anchors->second.find({captured.stage, captured.layer});
    if (found == anchors->second.end()) return compute();
    const Anchor& anchor = found->second;
    std::vector<float> nearest;
    std::vector<float> taken(values.size());
    double error = 0;
    int32_t tensor = -1;
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
      LookAgain(captured, pass_row, nearest, error, limit);
    }
    if (error > limit && captured.stage == Stage::kAttention) {
      limit = std::max(limit, ScoreLimit(captured, row, pass_row));
    }
    if (error > limit && captured.stage == Stage::kKey) {
      KeepKeys(captured.layer, row, pass_row, nearest);
    }
    Record({graph, {captured.stage, captured.layer}}, row, tensor, error,
           limit);
    // What is written to a cache of fewer bits is used before it is rounded.
    if (anchor.kind == Anchor::Kind::kKvCache && input_.kv_type != "FLOAT32") {
      return;
    }
    std::copy(nearest.begin(), nearest.end(), values.begin());
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
    if (!UnrotatedOf(captured.stage)) kept = kept_.find(*RotatedOf(input));
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
                            input->is_rotated, found);
  }

  void Compute(const Captured& captured, size_t pass_row,
               std::span<float> values) const {
    const auto input = ProductInputOf(captured, pass_row);
    if (!input) throw Error("{} has no input", NameOf(captured.stage));
    const Reference::PreciseRow precise = reference_.Multiply(
        captured.stage, captured.layer, input->x, input->is_rotated);
    std::transform(precise.values.begin(), precise.values.end(), values.begin(),
                   [](double value) { return static_cast<float>(value); });
  }

  // The product once more, in float64: the reference's own rounding is out of
  // it, and what the candidate's sums may be off by is known.
  void LookAgain(const Captured& captured, size_t pass_row,
                 std::span<const float> found, double& error,
                 double& limit) const {
    const auto input = ProductInputOf(captured, pass_row);
    if (!input) return;
    const Reference::PreciseRow precise = reference_.Multiply(
        captured.stage, captured.layer, input->x, input->is_rotated);
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
    const KvRows& cached =
        input_.recording
            .caches[row.snapshot->after][static_cast<size_t>(captured.layer)];
    const auto size = static_cast<size_t>(input_.config.head_dim);
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

  void CompareLogits(const Row& row, std::span<const float> logits) {
    const std::span<const float> found = LogitsOf(row);
    if (found.size() != logits.size()) return;
    Record({row.snapshot->graph, {Stage::kHead, -1}, true}, row, -1,
           RowError(logits, found), kOtherLimit);
  }

  void Record(const StageOf& stage, const Row& row, int32_t tensor,
              double error, double limit) {
    StageResult& result = results_[stage];
    result.tensors.insert(tensor);
    const bool worse =
        result.rows++ == 0 || error / limit > result.error / result.limit;
    if (!worse) return;
    result.error = error;
    result.limit = limit;
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
  std::vector<float> keys_;     // of the current layer, before RoPE
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

StageResults CompareStages(const ComparisonInput& input, Reference& reference,
                           std::vector<KeyRow>* wrong_keys) {
  return StageComparer(input, reference, wrong_keys).Run();
}

}  // namespace verify_tflite
