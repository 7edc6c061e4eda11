// What a graph computes from positions alone, at every position of the KV
// cache: RoPE's cosines and sines, masks, biases of attention, places in the KV
// caches.
//
// A run visits some positions. What depends on the position at others is in the
// file all the same, as tables or as operators, and a fault there shows on the
// phone. So the operators that depend on nothing but the positions are run
// alone (candidate/partial_graph.h), which takes microseconds, at all positions
// and, of each prefill signature, in chunks that visit every position; what the
// rest of the graph reads of them is compared with config.json. A position
// enters the rest of the graph only by these tensors, so that what local
// verification shows at the positions that it visits holds at all.
// docs/tables.md.
#ifndef VERIFY_TFLITE_STRUCTURE_POSITION_CHECK_H_
#define VERIFY_TFLITE_STRUCTURE_POSITION_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "candidate/model.h"
#include "checkpoint/model_config.h"
#include "tflite/file.h"

namespace verify_tflite {

// Operators of a signature's graph that depend on positions alone.
struct PositionPart {
  std::string signature;
  int32_t input = -1;             // the positions' tensor; -1: there is none
  std::vector<int32_t> ops;       // ascending, all that `frontier` needs
  std::vector<int32_t> frontier;  // what other operators read of them
  // Of the file: read by these operators, and by no other in this graph.
  std::vector<int32_t> constants;
};

PositionPart FindPositionPart(const tflite::Graph& graph);

// What a tensor of the frontier is, where it is not what config.json says.
struct PositionFault {
  enum class Kind { kRope, kMask, kWindow, kPlace, kQueryScale };
  Kind kind = Kind::kRope;
  std::string signature;
  std::string what;    // "the cosines of RoPE", "the causal mask", …
  std::string tensor;  // its name; for the reader alone
  int64_t first = 0;   // positions that are wrong, of both ends
  int64_t last = 0;
  int64_t positions = 0;  // how many are
  int64_t values = 0;     // numbers that are wrong, each counted once a visit
  // One of them: at `at`, in column `column` of the tensor's row.
  int64_t at = 0;
  int64_t column = 0;
  double found = 0;
  double expected = 0;
};

struct PositionResult {
  std::vector<PositionFault> faults;
  // What was not checked, and why: "decode: a tensor of shape …".
  std::vector<std::string> gaps;
  // What the tensors were found to be, each once: "the causal mask".
  std::vector<std::string> kinds;
  int64_t tensors = 0;    // of all signatures' frontiers
  int64_t positions = 0;  // of the KV cache
  // Constants that are read for positions alone, as tflite::File::constants.
  std::vector<int32_t> constants;
};

// A table that is read by position and ends before the KV cache does.
struct ShortTable {
  std::string signature;
  int64_t first = 0;      // position from which on the runtime fails
  int64_t positions = 0;  // of the KV cache
  std::string table;  // "[200, 1, 1, 256]"; empty: no constant of as many rows
  std::string error;  // the runtime's
};

// Runs what depends on positions alone at the last positions of the KV cache,
// and where the runtime fails there, looks for the first such position. `file`
// is of `model`. Nothing else is run.
std::vector<ShortTable> FindShortTables(const Model& model,
                                        const tflite::File& file);

// By which a head rotates, as the reference has them (radians a position);
// `local`: of the layers with local_rope, else empty.
struct RotaryFrequencies {
  std::vector<double> usual, local;
};

// `file` is of `model`. Throws Error when the runtime fails.
PositionResult CheckPositions(const Model& model, const tflite::File& file,
                              const ModelConfig& config,
                              const RotaryFrequencies& frequencies);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_POSITION_CHECK_H_
