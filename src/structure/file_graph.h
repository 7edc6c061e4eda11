// A model file's graphs, by what the decoder's stages are in them, and its
// weights by the checkpoint's names.
#ifndef VERIFY_TFLITE_STRUCTURE_FILE_GRAPH_H_
#define VERIFY_TFLITE_STRUCTURE_FILE_GRAPH_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "audit/originals.h"
#include "audit/roles.h"
#include "audit/weight_audit.h"
#include "checkpoint/checkpoint.h"
#include "reference/file_weight.h"
#include "tflite/container.h"
#include "tflite/interface.h"

namespace verify_tflite {

// One product with weights in a signature's graph. Tensors are indices in that
// graph.
struct Product {
  WeightRole role;  // never a bias
  int32_t op = -1;
  int32_t input = -1;  // what is multiplied, [.., rows, inputs] row-major
  // Of a product with rotated weights: what the operator reads, of the same
  // size. `input` is what is rotated to give it.
  int32_t rotated = -1;
  int32_t output = -1;  // with the bias, also where an ADD of its own adds it
  // Weights are read as integers by the operator itself, not through
  // DEQUANTIZE, and its input is float: the runtime quantises that.
  bool quantised_input = false;
  // The operator that gives `output` has a ReLU fused to it.
  bool rectified = false;
  // Its matrix, of FileGraph::file.constants, and what the checkpoint has in
  // its place; null as `columns` is empty.
  int32_t constant = -1;
  bool transposed = false;
  std::shared_ptr<const Original> original;
  // What the input is multiplied with before; null: nothing.
  const std::vector<float>* vector = nullptr;
  // Which of the checkpoint's outputs the file's are, in the file's order.
  // Empty: the constant has another size than the checkpoint's tensors, or is
  // of a type not read here.
  struct Columns {
    Part part = Part::kQ;  // kQ, kK, kV, kGate, kUp; else role.part
    int64_t first = 0;     // output of that part
    int64_t count = 0;
  };
  std::vector<Columns> columns;
  double factor = 1;  // folded into the weights: output = factor * the stage's
  // A norm's weight (and bias) was folded into this product: the stage's value
  // is scale * input + offset, [inputs]. Empty: it is the input.
  std::vector<float> input_scale, input_offset;
};

struct SignatureGraph {
  std::string signature;
  int32_t graph = -1;             // of tflite::File::graphs
  std::vector<Product> products;  // in the order of execution
  // Output of the lookup, rotated back where it is; -1: an input instead.
  int32_t embedding = -1;
  // Folded into the table, the embedder's too: lookup = factor * embedding.
  double embedding_factor = 1;
  // What products give are integers of ranges measured once.
  bool integer_activations = false;
  // As this signature reads them. Those of the checkpoint's tensors that are
  // not here could not be told; the checkpoint's stand for them. Weights that
  // two signatures store as one have one `read`.
  FileWeights weights;
  std::string not_understood;  // why there are no products; else empty
};

struct FileGraph {
  const tflite::File* file = nullptr;  // the model, not its embedder
  std::vector<SignatureGraph> signatures;
  // What the views and rotations of `weights` are of. May be moved, not copied.
  std::deque<ReadFn> readers;
  std::shared_ptr<void> storage;  // the mapped files among it
};

// Reads the model of `container` and the embedders that belong to it.
// `checkpoint` must outlive the result. Nothing runs, and weights are read only
// as they are asked for. Throws Error when a file is damaged.
FileGraph OpenFileGraph(std::shared_ptr<const tflite::Container> container,
                        const Checkpoint& checkpoint);
FileGraph OpenFileGraph(const std::string& path, const Checkpoint& checkpoint);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_FILE_GRAPH_H_
