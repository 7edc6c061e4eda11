// SPDX-License-Identifier: Apache-2.0
// What is in a .tflite, in numbers and names: of files that the runtime would
// not load, too.
#ifndef VERIFY_TFLITE_TFLITE_SUMMARY_H_
#define VERIFY_TFLITE_TFLITE_SUMMARY_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tflite/file.h"
#include "tflite/interface.h"

namespace verify_tflite::tflite {

// Constants stored alike.
struct Weights {
  int64_t tensors = 0;
  int64_t bytes = 0;
  int64_t elements = 0;  // 0 for types without a fixed size
};

struct Summary {
  std::string description;
  uint32_t version = 0;
  std::vector<std::pair<std::string, int64_t>> metadata;  // name, bytes
  // Inputs and outputs in the order of the signatures' own lists.
  std::vector<SignatureSpec> signatures;
  int64_t subgraphs = 0;
  std::map<std::string, int64_t> ops;         // "FULLY_CONNECTED", …
  std::map<std::string, int64_t> composites;  // of STABLEHLO_COMPOSITE, by name
  // Constants by how they are stored: "FLOAT32", "INT8 per channel", "INT4 in
  // blocks of 32", … What several tensors share counts once.
  std::map<std::string, Weights> weights;
  std::map<std::string, int64_t> weight_bytes;  // by type alone
};

Summary Summarize(const File& file);

// Returns what converted the file, and from which class, as the paths of PyTorch
// modules say that its tensors are named by: "litert-torch's export_hf, from
// transformers' LlamaForCausalLM"; empty where they do not. No file records a
// version of either.
std::string ConvertedBy(const File& file);

}  // namespace verify_tflite::tflite

#endif  // VERIFY_TFLITE_TFLITE_SUMMARY_H_
