// SPDX-License-Identifier: Apache-2.0
#include "structure/expert_choice.h"

#include <algorithm>
#include <cmath>

namespace verify_tflite {

ExpertChoice::ExpertChoice(const tflite::File& file,
                           const SignatureGraph& graph,
                           const ExpertsConfig& config)
    : graph_(file.graphs[static_cast<size_t>(graph.graph)]), config_(config) {
  for (const ExpertUse& use : graph.experts) {
    ops_.insert({use.choice, use.equal});
    places_.insert(graph_.ops[static_cast<size_t>(use.choice)].outputs[1]);
  }
}

bool ExpertChoice::ReadsPlaces(const tflite::Op& op) const {
  return !op.inputs.empty() && places_.contains(op.inputs[0]);
}

bool ExpertChoice::IsPart(const Threshold& threshold) const {
  if (ops_.contains(threshold.op)) return true;
  const tflite::Op& op = graph_.ops[static_cast<size_t>(threshold.op)];
  // As indices of PyTorch may be, from the end.
  if (op.code == tflite::kOpLess && op.activation == 0) return ReadsPlaces(op);
  const double least = config_.least_sum;
  return op.code == tflite::kOpMaximum && op.activation == 0 && least > 0 &&
         threshold.at.has_value() &&
         std::abs(*threshold.at - least) <= 1e-6 * least;
}

}  // namespace verify_tflite
