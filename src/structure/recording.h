// What a candidate computed, stage by stage, on its way through a text.
#ifndef VERIFY_TFLITE_STRUCTURE_RECORDING_H_
#define VERIFY_TFLITE_STRUCTURE_RECORDING_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "candidate/session.h"
#include "checkpoint/model_config.h"
#include "mapping/file_graph.h"
#include "structure/anchors.h"

namespace verify_tflite {

// Rows of one run of a signature.
struct Snapshot {
  const SignatureGraph* graph = nullptr;
  int64_t begin = 0;            // position of the first row
  std::vector<int32_t> tokens;  // one a row
  // Rows whose products with weights are held to the reference by
  // Reference::Probe. In a long prefill all but those at either end.
  int64_t probed_begin = 0;
  int64_t probed_end = 0;
  // The KV caches hold what the text before gave, no copies.
  bool real_text = true;
  // Tapped tensors by index, [rows, numbers of a row];
  // of integers, what they stand for.
  std::map<int32_t, std::vector<float>> tensors;
  // [vocab] of each row, or nothing where the signature yields none.
  std::vector<std::vector<float>> logits;
  // Of Recording::caches: what the KV caches held before the run, at least at
  // the positions before it, and after.
  size_t before = 0;
  size_t after = 0;
  // States beside keys and values before and after the run, by layer. With
  // these a snapshot has all rows of its run.
  std::map<int64_t, StateRows> states_before, states_after;
};

struct Recording {
  std::vector<Snapshot> snapshots;
  std::vector<std::vector<KvRows>> caches;  // each by layer
  // The model without taps gave the same logits, bit for bit.
  bool same_bits = false;
};

// By signature; those that are run.
using AnchorsBySignature = std::map<std::string, Anchors>;

// Tokens that a run of the signature takes, pads included; 0 for those that
// production does not run.
int64_t RowsOf(const ModelInfo& model, const std::string& signature);

// One run of a signature; or none, and KV entries are copies of those before
// (Session::FillTo): what lies between places of interest costs nothing,
// however long the KV cache is.
struct RecordingStep {
  int64_t text = 0;     // each begins with empty KV caches
  int64_t begin = 0;    // position
  int64_t count = 0;    // tokens
  int64_t prefill = 0;  // length of the signature; 0: decode
  bool copies = false;
};

// Positions that can be compared: those of the KV caches, as far as the
// checkpoint's RoPE is the same for a text of any length (dynamic RoPE and
// longrope change all keys of a text that becomes longer than they were trained
// on).
int64_t PositionsOf(const ModelInfo& model, const ModelConfig& config);

// Decode at position 0, and then one text: the longest prefill signature at 0
// and a step of decode; decode at powers of two and beside them; and at the end
// of `positions` each prefill signature, the longest first, a step of decode
// behind each, the last one at the last position. Between them copies. Rings,
// which cannot be filled with these, and KV caches that are too short for all
// that: each prefill signature with decode behind it, from 0 on.
std::vector<RecordingStep> PlanRecording(const ModelInfo& model,
                                         int64_t positions);

// What the model yields without taps: a hash of the logits of each row, by step
// of the plan.
using PlainLogits = std::vector<std::vector<size_t>>;

// The steps of the plan up to the first whose length is none of `compiled`,
// those of the session's prefill signatures. `positions`: PositionsOf. `ids`:
// at least one; taken again from the beginning where they are too few.
PlainLogits RunPlain(const ModelInfo& model, int64_t positions,
                     Session& session, std::span<const int64_t> compiled,
                     std::span<const int32_t> ids);

struct RecordingInput {
  const Model& model;
  const FileGraph& file;
  const AnchorsBySignature& anchors;
  int64_t positions = 0;         // PositionsOf
  std::span<const int32_t> ids;  // as for RunPlain
  const PlainLogits& plain;      // may be empty: then same_bits is false
  int num_threads = 1;
  ProgressFn progress = nullptr;
};

// Runs the plan with taps, one prefill signature after the other, so that no
// more than that and decode are in memory. Throws Error when the model cannot
// be opened with taps.
Recording Record(const RecordingInput& input);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_RECORDING_H_
