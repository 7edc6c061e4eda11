// A model file's graphs, by what the decoder's stages are in them, and its
// weights by the checkpoint's names.
#ifndef VERIFY_TFLITE_MAPPING_FILE_GRAPH_H_
#define VERIFY_TFLITE_MAPPING_FILE_GRAPH_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/weight_role.h"
#include "mapping/file_tensor.h"
#include "mapping/model_map.h"
#include "reference/file_weight.h"
#include "tflite/file.h"

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
  const Original* original = nullptr;  // of FileGraph::map
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
  std::vector<ExpertUse> experts;  // as SignatureRoles has them
  // What products give are integers of ranges measured once.
  bool integer_activations = false;
  // As this signature reads them. Those of the checkpoint's tensors that are
  // not here could not be told; the checkpoint's stand for them. Weights that
  // two signatures store as one have one `read`.
  FileWeights weights;
  std::string not_understood;  // why there are no products; else empty
};

// May be moved, not copied.
struct FileGraph {
  std::shared_ptr<const ModelMap> map;
  const tflite::File* file = nullptr;  // the model, not its embedder
  std::vector<SignatureGraph> signatures;
  // What the views of `weights` read.
  std::deque<FileTensor> tensors;
  std::deque<ReadFn> readers;
};

// Works out what the signatures of the map's model compute. Nothing runs, and
// weights are read only as they are asked for.
FileGraph MakeFileGraph(std::shared_ptr<const ModelMap> map);
// Maps the file, with the embedders that belong to it, first. `checkpoint` must
// outlive the result. Throws Error when a file is damaged.
FileGraph OpenFileGraph(const std::string& path, const Checkpoint& checkpoint);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_FILE_GRAPH_H_
