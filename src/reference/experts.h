// SPDX-License-Identifier: Apache-2.0
// Which experts a row takes.
#ifndef VERIFY_TFLITE_REFERENCE_EXPERTS_H_
#define VERIFY_TFLITE_REFERENCE_EXPERTS_H_

#include <optional>
#include <span>
#include <vector>

#include "checkpoint/model_config.h"

namespace verify_tflite {

// Makes what a router gives for a row, one number for each expert, the experts'
// weights: 0 for those that the row does not take. Of equal ones the first is
// taken. `choice_bias` has as many, or none.
void WeighExperts(const ExpertsConfig& config,
                  std::span<const float> choice_bias, std::span<float> row);

// Returns what experts are chosen by: `router`, or, with a bias, their scores
// and the bias. Groups are left aside.
std::vector<float> ChoiceNumbers(const ExpertsConfig& config,
                                 std::span<const float> choice_bias,
                                 std::span<const float> router);

// Makes the same numbers the weights of the experts `taken`.
void WeighTaken(const ExpertsConfig& config, const std::vector<size_t>& taken,
                std::span<float> row);

// Returns the weights that follow from `router`, what a router gives for a row,
// where the experts that `weights` takes are not those of WeighExperts, but ones
// whose scores equal theirs but for rounding; else nothing.
std::optional<std::vector<float>> WeightsOfTie(
    const ExpertsConfig& config, std::span<const float> choice_bias,
    std::span<const float> router, std::span<const float> weights);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REFERENCE_EXPERTS_H_
