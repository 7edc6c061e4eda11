// Local verification: is what the candidate's graph computes, stage by stage,
// what the model says?
//
// The candidate runs with taps: inputs and outputs of its products with
// weights, its residual streams and its KV caches are read. The reference then
// computes each stage from the candidate's own tensors before it, with the
// file's dequantised weights and the rounding of activations that the runtime
// does, and the two are held to float rounding. docs/structure.md.
#ifndef VERIFY_TFLITE_STRUCTURE_STRUCTURE_CHECK_H_
#define VERIFY_TFLITE_STRUCTURE_STRUCTURE_CHECK_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "candidate/session.h"
#include "checkpoint/checkpoint.h"
#include "mapping/file_graph.h"
#include "reference/alternative.h"
#include "result/verification.h"
#include "structure/calibrated.h"
#include "structure/recording.h"
#include "structure/routing.h"
#include "structure/stage_comparison.h"
#include "structure/thresholds.h"

namespace verify_tflite {

// A tensor with a range of its own, by its names.
struct TensorUse {
  std::string signature;
  std::string op;      // "FULLY_CONNECTED": what computes it
  std::string tensor;  // its name; for the reader alone
  RangeUse use;
};

class StructureCheck {
 public:
  struct Input {
    const Model& model;
    const Checkpoint& checkpoint;
    const FileGraph& file;
    std::span<const int32_t> ids;  // as for RunPlain
    const PlainLogits& plain;      // as RecordingInput::plain
    int num_threads = 1;
    ProgressFn progress = nullptr;
  };

  // Runs the candidate (recording.h). What `input` refers to must outlive this,
  // but for `ids` and `plain`. Throws Error when the model cannot be run or
  // opened with taps.
  explicit StructureCheck(const Input& input);

  // Compares what the candidate computed with the reference.
  Structure Compare();
  // What Compare found in the KV caches that should not be there: all rows of
  // the keys that differ.
  const std::vector<KeyRow>& wrong_keys() const { return wrong_keys_; }

  // A sentence each about operators that act beyond a threshold: where float16
  // ends, and elsewhere.
  std::vector<std::string> NotesOnThresholds() const;
  // What Compare found integer tensors to be given and to hold.
  std::vector<TensorUse> ranges() const;

  // As MeasureRouting, on what was recorded.
  std::optional<Routing> MeasureExperts(Reference& reference) const;

  // As MeasureActivationErrors, on what was recorded.
  std::vector<ActivationError> MeasureErrors(
      const std::set<int32_t>& constants) const;

  // Stages of decode that do not agree with a reference that computes
  // `alternative`, in the order of computation; of layers behind `last_layer`
  // none, which saves their time.
  std::vector<StructureFault> FaultsUnder(
      const Alternative& alternative,
      std::optional<int64_t> last_layer = std::nullopt) const;

 private:
  StageResults CompareAll(const std::string& only,
                          const std::optional<Alternative>& alternative,
                          std::optional<int64_t> last_layer,
                          std::vector<KeyRow>* wrong_keys,
                          RangeUses* ranges) const;
  // "MINIMUM at 50 (model/layers.0/mul)", by the tensor that it computes;
  // `more` is " at 50".
  std::string NameOf(const SignatureGraph& graph, int32_t op,
                     const std::string& more) const;
  std::string NameOf(const SignatureGraph& graph,
                     const Threshold& threshold) const;
  SignatureStructure Describe(const SignatureGraph& graph,
                              const StageResults& results) const;
  std::vector<StructureFault> FaultsOf(const StageResults& results) const;
  const tflite::Graph& GraphOf(const SignatureGraph& graph) const;
  // The operator that computes a tensor; null where none does.
  const tflite::Op* ProducerOf(const SignatureGraph& graph,
                               int32_t tensor) const;

  const Model& model_;
  const Checkpoint& checkpoint_;
  const FileGraph& file_;
  int num_threads_;
  ProgressFn progress_;
  AnchorsBySignature anchors_;
  Recording recording_;
  std::vector<KeyRow> wrong_keys_;
  RangeUses ranges_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_STRUCTURE_CHECK_H_
