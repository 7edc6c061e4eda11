// What the tests with models share.
#ifndef VERIFY_TFLITE_CANDIDATE_TESTING_MODELS_H_
#define VERIFY_TFLITE_CANDIDATE_TESTING_MODELS_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "candidate/model.h"
#include "candidate/prefill_plan.h"
#include "candidate/session.h"

namespace verify_tflite {

using Tokens = std::vector<int32_t>;

inline std::vector<int64_t> Lengths(const Model& model) {
  std::vector<int64_t> lengths;
  for (const PrefillInfo& prefill : model.info().prefills) {
    lengths.push_back(prefill.length);
  }
  return lengths;
}

inline PrefillPlan Plan(const Model& model, size_t begin, size_t count) {
  return PlanPrefill(Lengths(model), model.info().kv_length,
                     static_cast<int64_t>(begin), static_cast<int64_t>(count));
}

inline Model Open(const std::string& path, int64_t sliding_window = 0) {
  Model::OpenOptions options;
  if (sliding_window > 0) options.sliding_window = sliding_window;
  return Model::Open(path, options);
}

// A session with every prefill signature.
inline Session WholeSession(const Model& model, Session::Options options = {}) {
  PrefillPlan all;
  for (size_t i = 0; i < model.info().prefills.size(); ++i) {
    all.chunks.push_back({.prefill = i});
  }
  return Session::Create(model, {&all, 1}, std::move(options));
}

// Text-like token ids that differ from one another, none of them special.
inline Tokens SomeTokens(size_t count, int32_t seed = 0) {
  Tokens tokens(count);
  for (size_t i = 0; i < count; ++i) {
    tokens[i] = 100 + (static_cast<int32_t>(i) * 7919 + seed * 104729) % 40000;
  }
  return tokens;
}

inline std::vector<float> Copy(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

inline int32_t Best(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) -
                              logits.begin());
}

// Feeds `prompt` as production does, then takes `steps` greedy steps. Returns
// the logits of all steps in one row.
inline std::vector<float> Generate(Session& session, KvCache& kv,
                                   const Tokens& prompt, int steps,
                                   Tokens* chosen = nullptr) {
  session.Prefill(kv, std::span(prompt).first(prompt.size() - 1));
  std::vector<float> logits;
  int32_t token = prompt.back();
  for (int i = 0; i < steps; ++i) {
    const std::span<const float> step = session.Decode(kv, token);
    logits.insert(logits.end(), step.begin(), step.end());
    token = Best(step);
    if (chosen != nullptr) chosen->push_back(token);
  }
  return logits;
}

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CANDIDATE_TESTING_MODELS_H_
