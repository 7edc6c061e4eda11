// A .tflite loaded by the runtime, and how its weights are stored.
#ifndef VERIFY_TFLITE_CANDIDATE_GRAPH_H_
#define VERIFY_TFLITE_CANDIDATE_GRAPH_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "candidate/model.h"
#include "candidate/runtime.h"
#include "tflite/file.h"

namespace verify_tflite {

using OwnedModel = Owned<&Runtime::LiteRtDestroyModel>;

// From memory, which must outlive the model: unlike this way,
// LiteRtCreateModelFromFile and -FromFd do not verify the flatbuffer and crash
// on truncated files. Throws Error for a damaged one.
OwnedModel LoadModel(const std::string& path, std::span<const std::byte> bytes);

// Returns the constants that operators read, by type, quantisation and use, by
// descending number of elements (0 for a type of unknown size); a buffer that
// several subgraphs share counts once.
std::vector<WeightGroup> ReadWeightGroups(const tflite::File& file);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_GRAPH_H_
