// SPDX-License-Identifier: Apache-2.0
// Which experts the TFLite model's rows take, where PyTorch's take others.
#ifndef VERIFY_TFLITE_STRUCTURE_ROUTING_H_
#define VERIFY_TFLITE_STRUCTURE_ROUTING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "mapping/file_graph.h"
#include "reference/reference.h"
#include "structure/recording.h"

namespace verify_tflite {

struct Routing {
  int64_t positions = 0;
  int64_t differing_positions = 0;  // in some layer
  int64_t choices = 0;              // positions times layers with experts
  int64_t differing = 0;
  // Of those that differ: PyTorch's margin between what it takes and what the
  // file takes instead is within the noise of the router's numbers.
  int64_t ties = 0;
  // Of PyTorch with the file's choices from PyTorch with its own, mean over the
  // positions, in nats.
  double kld = 0;
  int64_t layers = 0;  // those with experts that were compared
  // Of the signature that has most.
  int64_t routers = 0;
  int64_t quantised_routers = 0;
};

// Compares the first text that was recorded, which both are given from position
// 0 on: `reference`, of the checkpoint as it is, computes it by itself. Returns
// nothing where the model has no experts or the file's choices were not
// recorded. Throws Error as Reference does.
std::optional<Routing> MeasureRouting(const Recording& recording,
                                      const AnchorsBySignature& anchors,
                                      const FileGraph& file,
                                      const ModelConfig& config,
                                      Reference& reference);

// Returns what users read of it, a sentence each.
std::vector<std::string> Describe(const Routing& routing);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_ROUTING_H_
