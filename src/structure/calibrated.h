// Weights that a quantiser moved with activations in mind, on real activations.
#ifndef VERIFY_TFLITE_STRUCTURE_CALIBRATED_H_
#define VERIFY_TFLITE_STRUCTURE_CALIBRATED_H_

#include <cstdint>
#include <set>
#include <vector>

#include "audit/weight_audit.h"
#include "mapping/file_graph.h"
#include "structure/recording.h"

namespace verify_tflite {

// The error of products with `constants` (of file.file->constants, int8 or int4
// with scales of rows or blocks) on the inputs that the candidate had for them
// in `recording`. Those whose inputs were not recorded are left out.
std::vector<ActivationError> MeasureActivationErrors(
    const FileGraph& file, const Recording& recording,
    const std::set<int32_t>& constants, int num_threads);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_CALIBRATED_H_
