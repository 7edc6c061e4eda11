// Which tokens attention sees, measured on the candidate alone.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "locate/reach_probe.h"
#include "verify/causes/causes.h"

namespace verify_tflite {
namespace {

// Whether a window of `window` in the layers that should have `own` explains
// the logits; of prefill, which has none, whether layers' reaches add up.
bool IsWindow(const Evidence& evidence, const Reach& reach, size_t layer,
              int64_t own, int64_t window, std::vector<Hypothesis>& tried) {
  if (&reach == &evidence.probes.prefill_reach) {
    return layer + 1 < reach.layers.size() &&
           reach.layers[layer + 1].forward ==
               std::min(reach.layers[layer].forward + window - 1,
                        reach.length - 1);
  }
  const Change change =
      With(evidence, FindingId::kSlidingWindow,
           fmt::format("a window of {} instead of {}", window, own),
           [&](ModelConfig& m) {
             for (LayerConfig& l : m.layers) {
               if (l.window == own) l.window = window;
             }
           });
  const Hypothesis hypothesis = Test(evidence, change);
  tried.push_back(hypothesis);
  return hypothesis.explains ||
         (!evidence.input.faults.empty() &&
          Explains(evidence,
                   evidence.input.structure->FaultsUnder(change.alternative)));
}

std::optional<Finding> LookAtBackward(const Evidence& evidence) {
  const Reach& reach = evidence.probes.prefill_reach;
  for (size_t i = 1; i < reach.layers.size(); ++i) {
    const int64_t backward = reach.layers[i].backward;
    if (backward >= reach.length - 1) continue;
    return MakeFinding(
        {.id = FindingId::kMask,
         .evidence = fmt::format(
             "Replacing token {} of {} changes the KV caches of layer "
             "{} from token {} on; only token {} itself may change.",
             reach.length, reach.length, i, backward + 1, reach.length),
         .sentence = "Tokens see later tokens during prefill: the attention "
                     "mask is not "
                     "causal."});
  }
  return std::nullopt;
}

// Windows by what was seen: layer i's follows from what reaches layer i + 1's
// caches.
std::optional<Finding> LookAtForward(const Evidence& evidence,
                                     const Reach& reach, const char* run,
                                     std::vector<Hypothesis>& tried) {
  for (size_t i = 1; i < reach.layers.size(); ++i) {
    const int64_t expected =
        ExpectedForward(evidence.config, static_cast<int64_t>(i), reach.length);
    const int64_t found = reach.layers[i].forward;
    if (found == expected || found < 0) continue;
    if (evidence.config.layers[i - 1].conv) continue;  // it has no window
    const int64_t window = found - reach.layers[i - 1].forward + 1;
    const int64_t own = evidence.config.layers[i - 1].window;
    // What was seen was seen. What was not may have had too little weight.
    if (found < expected && !IsWindow(evidence, reach, i, own, window, tried))
      continue;
    return MakeFinding(
        {.id = FindingId::kSlidingWindow,
         .evidence = fmt::format(
             "{}: replacing the first token changes layer {}'s KV "
             "caches up to token {} of {}; by the checkpoint's windows "
             "it may change them up to token {}.",
             run, i, found + 1, reach.length, expected + 1),
         .sentence = fmt::format(
             "Layer {} sees {}{} tokens, where the checkpoint has {}.", i - 1,
             found >= reach.length - 1 ? "at least " : "", window,
             own == 0 ? "no window" : fmt::format("a window of {}", own))});
  }
  return std::nullopt;
}

}  // namespace

Explanation ExplainByReach(const Evidence& evidence) {
  Explanation result;
  const Probes& probes = evidence.probes;
  result.finding = LookAtBackward(evidence);
  if (!result.finding) {
    result.finding =
        LookAtForward(evidence, probes.decode_reach, "decode", result.tried);
  }
  if (!result.finding) {
    result.finding =
        LookAtForward(evidence, probes.prefill_reach, "prefill", result.tried);
  }
  return result;
}

}  // namespace verify_tflite
