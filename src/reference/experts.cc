// SPDX-License-Identifier: Apache-2.0
#include "reference/experts.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

namespace verify_tflite {
namespace {

void MakeScores(RouterScores kind, std::span<float> row) {
  if (kind == RouterScores::kSigmoid) {
    for (float& value : row) value = 1 / (1 + std::exp(-value));
    return;
  }
  const float most = *std::ranges::max_element(row);
  float sum = 0;
  for (float& value : row) sum += value = std::exp(value - most);
  for (float& value : row) value /= sum;
}

// The `count` largest of `values`, by number.
std::vector<size_t> Largest(const std::vector<float>& values, int64_t count) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater<>(), [&](size_t i) {
    return std::isnan(values[i]) ? -INFINITY : values[i];
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

// Leaves out the experts of the groups that are not taken.
void LeaveOutGroups(const ExpertsConfig& config, std::vector<float>& choice) {
  if (config.groups <= 1) return;
  const auto size = static_cast<size_t>(config.count / config.groups);
  std::vector<float> best;
  for (size_t first = 0; first < choice.size(); first += size) {
    const auto begin = choice.begin() + static_cast<int64_t>(first);
    const std::vector<float> group(begin, begin + static_cast<int64_t>(size));
    const std::vector<size_t> two = Largest(group, 2);
    best.push_back(group[two[0]] + group[two[1]]);
  }
  std::vector<bool> taken(best.size());
  for (const size_t group : Largest(best, config.groups_taken)) {
    taken[group] = true;
  }
  for (size_t i = 0; i < choice.size(); ++i) {
    if (!taken[i / size]) choice[i] = -INFINITY;
  }
}

// What experts are chosen by, from their scores.
std::vector<float> ChoiceOf(const ExpertsConfig& config,
                            std::span<const float> choice_bias,
                            std::span<const float> scores) {
  std::vector<float> choice(scores.begin(), scores.end());
  for (size_t i = 0; i < choice_bias.size(); ++i) choice[i] += choice_bias[i];
  LeaveOutGroups(config, choice);
  return choice;
}

// Makes scores the weights of the experts `taken`.
void Weigh(const ExpertsConfig& config, const std::vector<size_t>& taken,
           std::span<float> scores) {
  std::vector<float> weights(scores.size());
  float sum = 0;
  for (const size_t expert : taken) {
    weights[expert] = scores[expert];
    sum += scores[expert];
  }
  const float divisor =
      config.normalised ? std::max(sum + static_cast<float>(config.sum_offset),
                                   static_cast<float>(config.least_sum))
                        : 1;
  for (float& weight : weights) {
    weight = weight / divisor * static_cast<float>(config.scale);
  }
  std::ranges::copy(weights, scores.begin());
}

}  // namespace

void WeighExperts(const ExpertsConfig& config,
                  std::span<const float> choice_bias, std::span<float> row) {
  MakeScores(config.scores, row);
  const std::vector<float> choice = ChoiceOf(config, choice_bias, row);
  Weigh(config, Largest(choice, config.taken), row);
}

std::vector<float> ChoiceNumbers(const ExpertsConfig& config,
                                 std::span<const float> choice_bias,
                                 std::span<const float> router) {
  std::vector<float> numbers(router.begin(), router.end());
  if (choice_bias.empty()) return numbers;
  MakeScores(config.scores, numbers);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] += choice_bias[i];
  return numbers;
}

void WeighTaken(const ExpertsConfig& config, const std::vector<size_t>& taken,
                std::span<float> row) {
  MakeScores(config.scores, row);
  Weigh(config, taken, row);
}

std::optional<std::vector<float>> WeightsOfTie(
    const ExpertsConfig& config, std::span<const float> choice_bias,
    std::span<const float> router, std::span<const float> weights) {
  // Of a score: what softmax and sigmoid may be off by.
  constexpr float kTie = 2e-6f;
  std::vector<float> scores(router.begin(), router.end());
  MakeScores(config.scores, scores);
  const std::vector<float> choice = ChoiceOf(config, choice_bias, scores);
  std::vector<size_t> taken;
  float least = INFINITY, most = -INFINITY;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] != 0) {
      taken.push_back(i);
      least = std::min(least, choice[i]);
    } else {
      most = std::max(most, choice[i]);
    }
  }
  const bool is_tie = std::ssize(taken) == config.taken && least < most &&
                      most - least <= kTie * std::fabs(most);
  if (!is_tie) return std::nullopt;
  Weigh(config, taken, scores);
  return scores;
}

}  // namespace verify_tflite
