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
#include "structure/anchors.h"
#include "structure/file_graph.h"

namespace verify_tflite {

// Some rows of one run of a signature.
struct Snapshot {
  const SignatureGraph* graph = nullptr;
  int64_t begin = 0;            // position of the first row
  std::vector<int32_t> tokens;  // one a row
  // Tapped tensors by index, [rows, numbers of a row].
  std::map<int32_t, std::vector<float>> tensors;
  // [vocab] of each row, or nothing where the signature yields none.
  std::vector<std::vector<float>> logits;
  // Of Recording::caches: what the KV caches held before the run, at least at
  // the positions before it, and after.
  size_t before = 0;
  size_t after = 0;
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

// One run of a signature, or several for nothing but their KV entries.
struct RecordingStep {
  int64_t text = 0;     // each begins with empty KV caches
  int64_t begin = 0;    // position
  int64_t count = 0;    // tokens
  int64_t prefill = 0;  // length of the signature; 0: decode
  bool keep = true;
};

// Decode at position 0, and then one text: each prefill signature, the longest
// first and from position 0 on, a step of decode behind each, and one at the
// last position of the KV cache. Where that is too far, or for rings, without
// what leads there.
std::vector<RecordingStep> PlanRecording(const ModelInfo& model);

// What the model yields without taps: a hash of the logits of each row, by step
// of the plan.
using PlainLogits = std::vector<std::vector<size_t>>;

// The steps of the plan up to the first that is not to be kept or whose length
// is none of `compiled`, those of the session's prefill signatures. `ids`: at
// least one; taken again from the beginning where they are too few.
PlainLogits RunPlain(const ModelInfo& model, Session& session,
                     std::span<const int64_t> compiled,
                     std::span<const int32_t> ids);

struct RecordingInput {
  const Model& model;
  const FileGraph& file;
  const AnchorsBySignature& anchors;
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
