// Holds what a candidate computed, stage by stage, against the reference.
#ifndef VERIFY_TFLITE_STRUCTURE_STAGE_COMPARISON_H_
#define VERIFY_TFLITE_STRUCTURE_STAGE_COMPARISON_H_

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reference/reference.h"
#include "structure/anchors.h"
#include "structure/graph_formula.h"
#include "structure/recording.h"

namespace verify_tflite {

// |found - expected| / |expected|, L2. Infinite where `found` is not finite or
// where everything expected is 0 and something else was found.
double RowError(std::span<const float> expected, std::span<const float> found);

// Of one stage of one layer in one signature.
struct StageResult {
  int64_t rows = 0;
  // Of the row that is furthest beyond its limit, or nearest to it.
  double error = 0;
  double limit = 0;
  // Both are in steps of `tensor`, which holds integers; else relative to the
  // row.
  bool steps = false;
  int64_t position = 0;
  int32_t tensor = -1;
  std::set<int32_t> tensors;  // all that were compared
  // The reference went on with these, but they could not be compared.
  std::set<int32_t> not_compared;
  bool ok() const { return error <= limit; }
};

// What a pass compares: logits, which come after kHead, have a key of their
// own.
struct StageOf {
  const SignatureGraph* graph = nullptr;
  StageKey key;
  bool logits = false;
  auto operator<=>(const StageOf&) const = default;
};

using StageResults = std::map<StageOf, StageResult>;

// Keys of one row that the KV cache has otherwise than they should be.
struct KeyRow {
  int64_t layer = 0;
  int64_t position = 0;
  std::vector<float> before;  // RoPE, from the candidate's projection
  std::vector<float> after;   // as the candidate's KV cache has them
};

// What an integer tensor was to hold, as the reference and the graph's formulas
// have it, and how much of that it could not.
struct RangeUse {
  TensorRange range;
  double least = std::numeric_limits<double>::infinity();
  double most = -std::numeric_limits<double>::infinity();
  int64_t values = 0;
  int64_t outside = 0;      // by more than a step
  double squares = 0;       // of all values
  double lost_squares = 0;  // of what was cut off, here or between here and
                            // what was known before
};
using RangeUses = std::map<std::pair<const SignatureGraph*, int32_t>, RangeUse>;

// How far rounding may take GELU of `x`, times `factor` where there is one,
// relative to the L2 norm of what is expected. 0 where `x` is empty.
double GeluLimit(std::span<const float> x, std::span<const float> factor,
                 std::span<const float> expected);

struct ComparisonInput {
  const tflite::File& file;
  const Recording& recording;
  std::vector<const Snapshot*> snapshots;
  const AnchorsBySignature& anchors;
  const ModelConfig& config;
  std::string kv_type;  // ModelInfo::kv_type
  // The pass ends behind this layer; none: at the logits.
  std::optional<int64_t> last_layer = std::nullopt;
};

// One pass of `reference` over all of `snapshots`. At each stage the two are
// compared and the reference goes on with the candidate's numbers, so that no
// difference reaches another stage. Throws Error as Reference does.
//
// Where operators round to integers (SignatureGraph::integer_activations), two
// things are compared instead: the formula of the graph's operators
// (graph_formula.h) with the reference, to float rounding; and the integers
// with that formula, to the steps that rounding may take.
//
// `wrong_keys` and `ranges`, which may be null, are added to; the latter by
// runs of real text.
StageResults CompareStages(const ComparisonInput& input, Reference& reference,
                           std::vector<KeyRow>* wrong_keys = nullptr,
                           RangeUses* ranges = nullptr);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_STAGE_COMPARISON_H_
