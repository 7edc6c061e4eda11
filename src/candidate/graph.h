// What a .tflite file holds, read through the runtime.
#ifndef VERIFY_TFLITE_CANDIDATE_GRAPH_H_
#define VERIFY_TFLITE_CANDIDATE_GRAPH_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "candidate/litert_abi.h"
#include "candidate/model.h"
#include "candidate/signatures.h"

namespace verify_tflite {

// All signatures as the file declares them. Throws Error when the file's parts
// do not fit together; `path` names it in the message.
std::vector<SignatureSpec> ReadSignatures(const std::string& path,
                                          LiteRtModel model);

// Bytes of the constants that operators read, by element type; a buffer that
// several subgraphs share counts once.
std::map<LiteRtElementType, int64_t> ReadWeightBytes(const std::string& path,
                                                     LiteRtModel model);

// How the weights are stored: the coarsest type that a relevant share of them
// has. Norms, biases and tables are small, and stay float32 in every recipe.
Recipe RecipeOf(const std::map<LiteRtElementType, int64_t>& weight_bytes);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_GRAPH_H_
