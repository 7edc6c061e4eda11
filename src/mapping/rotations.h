// Operators that do nothing but rotate, block by block, the rows they read.
#ifndef VERIFY_TFLITE_MAPPING_ROTATIONS_H_
#define VERIFY_TFLITE_MAPPING_ROTATIONS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/rotation.h"
#include "tflite/file.h"

namespace verify_tflite {

// By constant; behind the last, those that operators of their own do, which
// have none. Equal ones are one; null: a square matrix that is none.
using Rotations = std::map<int32_t, std::shared_ptr<const Rotation>>;

// For each operator of `graph`, which of `rotations` it does, or -1. Adds those
// that are new, and square matrices that are none.
std::vector<int32_t> FindRotations(const tflite::File& file,
                                   const tflite::Graph& graph,
                                   Rotations& rotations);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_MAPPING_ROTATIONS_H_
