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
  bool same_bits = true;
};

// By signature; those that are run.
using AnchorsBySignature = std::map<std::string, Anchors>;

// What Session::Create must compile for the session without taps.
std::vector<PrefillPlan> RecordingPlans(const ModelInfo& model);

struct RecordingInput {
  const Model& model;
  Session& plain;  // of `model`
  const FileGraph& file;
  const AnchorsBySignature& anchors;
  std::span<const int32_t> ids;  // at least one; taken again from the beginning
  int num_threads = 1;
  ProgressFn progress = nullptr;
};

// Runs decode at position 0, and then one text: each prefill signature, the
// longest first and from position 0 on, a step of decode behind each, and one
// at the last position of the KV cache, where that is within 2048 tokens and
// there are no rings. Throws Error when the model cannot be opened with taps.
Recording Record(const RecordingInput& input);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_RECORDING_H_
