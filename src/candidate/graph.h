// What a .tflite file holds, read through the runtime.
#ifndef VERIFY_TFLITE_CANDIDATE_GRAPH_H_
#define VERIFY_TFLITE_CANDIDATE_GRAPH_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "candidate/model.h"
#include "candidate/runtime.h"
#include "candidate/signatures.h"

namespace verify_tflite {

using OwnedModel = Owned<&Runtime::LiteRtDestroyModel>;

// From memory, which must outlive the model: unlike this way,
// LiteRtCreateModelFromFile and -FromFd do not verify the flatbuffer and crash
// on truncated files. Throws Error for a damaged one.
OwnedModel LoadModel(const std::string& path, std::span<const std::byte> bytes);

// All signatures as the file declares them. Throws Error when the file's parts
// do not fit together; `path` names it in the message.
std::vector<SignatureSpec> ReadSignatures(const std::string& path,
                                          LiteRtModel model);

// The constants that operators read, by type, quantisation and use, by
// descending number of elements (0 for a type of unknown size); a buffer that
// several subgraphs share counts once.
std::vector<WeightGroup> ReadWeightGroups(const std::string& path,
                                          LiteRtModel model);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_GRAPH_H_
