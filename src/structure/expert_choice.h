// SPDX-License-Identifier: Apache-2.0
// Which of a graph's thresholds (thresholds.h) a choice of experts has anyway.
#ifndef VERIFY_TFLITE_STRUCTURE_EXPERT_CHOICE_H_
#define VERIFY_TFLITE_STRUCTURE_EXPERT_CHOICE_H_

#include <cstdint>
#include <set>

#include "checkpoint/model_config.h"
#include "mapping/file_graph.h"
#include "structure/thresholds.h"
#include "tflite/file.h"

namespace verify_tflite {

class ExpertChoice {
 public:
  // All must outlive this.
  ExpertChoice(const tflite::File& file, const SignatureGraph& graph,
               const ExpertsConfig& config);

  // Whether the operator is TOPK_V2 of scores, EQUAL of what it chose with an
  // expert's number, a test of whether places are negative, which none is, or
  // the least sum that weights are divided by. Comparisons see the weights that
  // follow from all of them.
  bool IsPart(const Threshold& threshold) const;

 private:
  bool ReadsPlaces(const tflite::Op& op) const;

  const tflite::Graph& graph_;
  const ExpertsConfig& config_;
  std::set<int32_t> ops_;     // TOPK_V2 and EQUAL
  std::set<int32_t> places_;  // tensors
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_STRUCTURE_EXPERT_CHOICE_H_
