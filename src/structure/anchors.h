// Where a signature's graph holds what the decoder's stages yield.
#ifndef VERIFY_TFLITE_STRUCTURE_ANCHORS_H_
#define VERIFY_TFLITE_STRUCTURE_ANCHORS_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_config.h"
#include "mapping/file_graph.h"
#include "reference/stage.h"

namespace verify_tflite {

// What a stage's values are in a graph. Inputs and outputs of products are
// found by dataflow, with certainty. Residual streams and norms of outputs lie
// between two products: there are few tensors of that shape, and the nearest is
// meant.
struct Anchor {
  enum class Kind {
    kTensor,   // a row of the tensor is a row of the stage
    kInput,    // of `product`: with its input_scale and input_offset
    kOutput,   // of `product`: by its columns and factor
    kKvCache,  // rows of a KV cache; `tensors` are its output
    kColumns,  // `tensors` are one column of the stage each
    kState,    // of the last row; `tensors` are its output
  };
  Kind kind = Kind::kTensor;
  std::vector<int32_t> tensors;
  const Product* product = nullptr;
  Part part = Part::kQ;  // of kOutput: whose columns
};

struct StageKey {
  Stage stage = Stage::kEmbedding;
  int64_t layer = -1;   // -1: of no layer
  int64_t expert = -1;  // -1: of no expert
  auto operator<=>(const StageKey&) const = default;
};
using Anchors = std::map<StageKey, Anchor>;

// `rows` is how many tokens the signature takes at once, for each of `batch`
// sequences. The result points into `graph`.
Anchors FindAnchors(const FileGraph& file, const SignatureGraph& graph,
                    const ModelConfig& config, int64_t rows);

// Which operators lie between compared tensors.
struct Coverage {
  std::vector<int32_t> needed;    // operators that the outputs depend on
  std::vector<int32_t> verified;  // of them
};

// `agreeing` and `differing` are the tensors that were compared. An operator is
// verified when a tensor that agrees depends on it without another compared
// tensor in between: what computes it from tensors that were compared, or from
// the signature's inputs, was held against the reference.
Coverage FindCoverage(const tflite::Graph& graph,
                      std::span<const int32_t> agreeing,
                      std::span<const int32_t> differing);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_ANCHORS_H_
