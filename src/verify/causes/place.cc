// Where the fault is, when nothing explains it.
#include <fmt/format.h>

#include <span>
#include <string>
#include <utility>

#include "verify/causes/causes.h"

namespace verify_tflite {
namespace {

// Whether K and V of the text's first token are right: it attends to itself
// alone and is not rotated.
bool RightAtStart(const Evidence& evidence, const RunView& run, size_t layer) {
  const KvRows& rows = (*run.rows)[layer];
  const ReferenceLayer& r = evidence.probes.reference[layer];
  if (rows.first > 0) return false;
  const auto width = static_cast<size_t>(rows.heads * rows.head_dim);
  const auto right = [&](const std::vector<float>& mine,
                         const std::vector<float>& theirs) {
    return Nmse(std::span(theirs).first(width), std::span(mine).first(width)) <=
           evidence.NoiseAt(layer);
  };
  return right(rows.keys, r.keys) && right(rows.values, r.values);
}

std::string DescribePlace(const Evidence& evidence, const RunView& run) {
  const auto layer = run.FirstWrong();
  if (!layer)
    return fmt::format("{}: K and V of all layers are right.", run.name);
  const bool both = run.wrong_k[*layer] && run.wrong_v[*layer];
  const LayerKv& l = evidence.probes.profile.layers[*layer];
  const bool prefill = &run == &evidence.prefill;
  const TensorFigures& k = prefill ? l.prefill_k : l.decode_k;
  const TensorFigures& v = prefill ? l.prefill_v : l.decode_v;
  return fmt::format(
      "{}: first wrong in layer {}, {} (NMSE K {:.2g}, V {:.2g}; sound up to "
      "{:.2g}); the first token is {} there.",
      run.name, *layer,
      both                  ? "K and V"
      : run.wrong_k[*layer] ? "K alone"
                            : "V alone",
      k.nmse, v.nmse, evidence.NoiseAt(*layer),
      RightAtStart(evidence, run, *layer) ? "right" : "wrong, too");
}

// Returns whether the logits are wrong where K and V are right. A quantised
// file may be far off there: that is the cost of its recipe. The probes' few
// positions show a cost like another fault's, so that a file with the
// checkpoint's own weights is accused only where all positions together are
// judged broken, too.
bool LogitsWrong(const Evidence& evidence) {
  const DiagnosisInput& input = evidence.input;
  const Limit& limit = input.limits.kld;
  if (!evidence.Quantised()) return evidence.kld > limit.pass;
  if (input.weights_verified) {
    // With one scale a channel, int4 costs as much as a fault does.
    if (input.model.recipe == Recipe::kInt4PerChannel || !input.broken) {
      return false;
    }
  }
  return evidence.kld > limit.broken;
}

}  // namespace

Explanation ExplainByPlace(const Evidence& evidence) {
  const auto p = evidence.prefill.FirstWrong();
  const auto d = evidence.decode.FirstWrong();
  const bool faulty = !evidence.input.faults.empty();
  if (!p && !d && faulty) {
    return {MakeFinding({.id = FindingId::kComputationDiffers,
                         .severity = SeverityByCost(evidence),
                         .evidence = DescribeFaults(evidence)})};
  }
  FindingParts parts;
  parts.evidence =
      DescribePlace(evidence, evidence.prefill) + "\n" +
      DescribePlace(evidence, evidence.decode) +
      fmt::format("\nlogits of decode: mean KL divergence {:.3g} nats",
                  evidence.kld) +
      (faulty ? fmt::format("\n{}", DescribeFaults(evidence)) : "");
  if (p && !d) {
    parts.id = FindingId::kPrefillDiffers;
    parts.sentence = "Prefill is wrong where decode is right.";
  } else if (d && !p) {
    parts.id = FindingId::kDecodeDiffers;
  } else if (evidence.input.weights_verified && (d || LogitsWrong(evidence))) {
    parts.id = FindingId::kComputationDiffers;
    parts.sentence =
        "The converted graph computes something else from the checkpoint's own "
        "weights.";
  } else if (!d && LogitsWrong(evidence)) {
    parts.id = FindingId::kLmHead;
    parts.sentence =
        "All layers are right, the logits are not: the fault is in the last "
        "layer's output, the final norm, the LM head or soft-capping.";
  } else if (d) {
    const auto& layer = evidence.probes.profile.layers[*d];
    const bool unrelated = *d == 0 && layer.decode_v.cosine < 0.5;
    parts.id =
        unrelated ? FindingId::kWrongCheckpoint : FindingId::kWeightDiffers;
    parts.sentence =
        *d == 0
            ? "What enters layer 0, or its q, k and v, is not the checkpoint's."
            : fmt::format(
                  "Layer {} is the first that does not compute what "
                  "the checkpoint's does.",
                  *d - 1);
  } else {
    return {};
  }
  return {MakeFinding(std::move(parts))};
}

}  // namespace verify_tflite
