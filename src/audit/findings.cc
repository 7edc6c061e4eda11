#include "audit/findings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

namespace verify_tflite {
namespace {

// Matrices of which so many differ, without a reason of their own, are another
// model's.
constexpr double kMost = 0.5;
// Independent random matrices correlate by 1 / sqrt(elements).
constexpr double kUnrelated = 0.2;
// Factors of scales within it cost little.
constexpr double kSmallFactor = 0.1;
constexpr size_t kMostLines = 12;

using Matches = std::vector<const WeightMatch*>;

bool IsMatrix(const WeightMatch& match) {
  return !match.role.bias && !IsNorm(match.role.part);
}

// One line for each, the first dozen.
std::string Lines(const Matches& matches) {
  std::vector<std::string> lines;
  for (const WeightMatch* match : matches) {
    if (lines.size() == kMostLines) {
      lines.push_back(fmt::format("and {} more", matches.size() - kMostLines));
      break;
    }
    // Where only some signatures have it.
    lines.push_back(fmt::format("{} ({}): {}", Describe(match->role),
                                fmt::join(match->signatures, ", "),
                                match->difference->text));
  }
  return fmt::format("{}", fmt::join(lines, "\n"));
}

class Judgement {
 public:
  explicit Judgement(const WeightAudit& audit) : audit_(audit) {
    for (const WeightMatch& match : audit.matches) {
      if (match.status == WeightMatch::Status::kDiffers) {
        open_.push_back(&match);
      }
    }
  }

  std::vector<Finding> Find() {
    ZeroScale();
    NotFinite();
    FewerBits();
    Whole();
    LayerOrder();
    ExpertOrder();
    OtherTensors();
    Heads();
    Zeros();
    Quantisation();
    Single();
    Missing();
    return std::move(findings_);
  }

 private:
  // Takes the matches for which `what` holds.
  Matches Take(const std::function<bool(const WeightMatch&)>& what) {
    Matches taken, left;
    for (const WeightMatch* match : open_) {
      (what(*match) ? taken : left).push_back(match);
    }
    open_ = std::move(left);
    return taken;
  }
  Matches Take(Fault fault) {
    return Take([=](const WeightMatch& match) {
      return match.difference->fault == fault;
    });
  }

  // Adds a finding for `matches`, if there are any. An empty `sentence` is that
  // of its page.
  void Add(FindingId id, Outcome severity, const Matches& matches,
           std::string sentence = "") {
    if (matches.empty()) return;
    findings_.push_back(MakeFinding({.id = id,
                                     .severity = severity,
                                     .evidence = Lines(matches),
                                     .sentence = std::move(sentence)}));
  }

  void ZeroScale() {
    if (audit_.zero_scales.constants == 0) return;
    findings_.push_back(
        MakeFinding({.id = FindingId::kZeroScale,
                     .evidence = Describe(audit_.zero_scales)}));
  }

  void FewerBits() {
    Add(FindingId::kCheckpointRounded, Outcome::kDegraded,
        Take(Fault::kFewerBits));
  }

  void NotFinite() {
    Add(FindingId::kNan, Outcome::kBroken, Take(Fault::kNotFinite),
        "Weights of the file are not finite, so nor are its outputs.");
  }

  // The product behind attention reads heads in the order in which they are.
  std::set<int32_t> LayersWithMovedHeads() const {
    std::set<int32_t> layers;
    for (const WeightMatch* match : open_) {
      if (match->difference->fault == Fault::kHeadOrder) {
        layers.insert(match->role.layer);
      }
    }
    return layers;
  }

  // Most matrices are not the checkpoint's, or differ by an adapter.
  void Whole() {
    int64_t matrices = 0, differ = 0, low_rank = 0, related = 0;
    double correlation = 0;
    for (const WeightMatch& match : audit_.matches) {
      matrices += IsMatrix(match);
    }
    std::set<int32_t> low_layers;
    const std::set<int32_t> moved = LayersWithMovedHeads();
    for (const WeightMatch* match : open_) {
      const Difference& d = *match->difference;
      if (!IsMatrix(*match) || d.fault != Fault::kDiffers) continue;
      // Exchanging two heads' columns is a change of low rank, too.
      if (match->role.part == Part::kO && moved.contains(match->role.layer)) {
        continue;
      }
      ++differ;
      correlation += d.correlation;
      related += d.correlation > kUnrelated;
      low_rank += d.low_rank;
      if (d.low_rank) low_layers.insert(match->role.layer);
    }
    const auto differs = [](const WeightMatch& match) {
      return match.difference->fault == Fault::kDiffers;
    };
    if (low_rank > 0 && low_rank == differ &&
        (low_layers.size() > 1 || audit_.layers == 1)) {
      Add(FindingId::kLoraNotMerged, Outcome::kBroken, Take(differs));
      return;
    }
    if (differ < 2 || differ < kMost * matrices) return;
    AddWholeModel(Take(differs), matrices, 2 * related < differ,
                  correlation / static_cast<double>(differ));
  }

  void AddWholeModel(const Matches& matches, int64_t matrices, bool unrelated,
                     double correlation) {
    Add(FindingId::kWrongCheckpoint, Outcome::kBroken, matches,
        unrelated
            ? "The file was made from another model of the same shape."
            : "The file was made from a relative of the checkpoint: its base "
              "model, its fine-tune, or an earlier state.");
    const std::string share = fmt::format(
        "{} of {} matrices {} (mean correlation {:.{}f})\n", matches.size(),
        matrices,
        unrelated ? "are unrelated to the checkpoint's"
                  : "differ from the checkpoint's, but are similar to them",
        correlation, unrelated ? 3 : 4);
    findings_.back().evidence.insert(0, share);
  }

  void LayerOrder() {
    Add(FindingId::kLayerOrder, Outcome::kBroken,
        Take([](const WeightMatch& match) {
          const auto& other = match.difference->other;
          return other && other->part == match.role.part &&
                 other->bias == match.role.bias &&
                 other->expert == match.role.expert;
        }));
  }

  void ExpertOrder() {
    Add(FindingId::kExpertOrder, Outcome::kBroken,
        Take([](const WeightMatch& match) {
          const auto& other = match.difference->other;
          return match.difference->fault == Fault::kExpertRows ||
                 (other && other->part == match.role.part &&
                  other->expert != match.role.expert);
        }));
  }

  void OtherTensors() {
    const auto take = [&](const std::function<bool(Part, Part)>& what) {
      return Take([&](const WeightMatch& match) {
        const auto& other = match.difference->other;
        return other && what(match.role.part, other->part);
      });
    };
    const auto both = [](Part a, Part b) {
      return [=](Part x, Part y) {
        return (x == a && y == b) || (x == b && y == a);
      };
    };
    Add(FindingId::kTiedHead, Outcome::kBroken, take([](Part x, Part y) {
          return x == Part::kHead && y == Part::kEmbedding;
        }),
        "The file uses the embedding as LM head, where the checkpoint has a "
        "head of its own.");
    Add(FindingId::kGateUpSwapped, Outcome::kBroken,
        take(both(Part::kGate, Part::kUp)));
    Add(FindingId::kQkSwapped, Outcome::kBroken,
        take(both(Part::kQ, Part::kK)));
    Add(FindingId::kKvSwapped, Outcome::kBroken,
        take(both(Part::kK, Part::kV)));
    Add(FindingId::kNormWeights, Outcome::kBroken,
        take([](Part x, Part y) { return IsNorm(x) && IsNorm(y); }),
        "Norms of the file hold other norms' weights.");
    Add(FindingId::kWeightDiffers, Outcome::kBroken, Take(Fault::kOtherTensor),
        "Weights of the file are those of other places of the checkpoint.");
  }

  void Heads() {
    const std::set<int32_t> layers = LayersWithMovedHeads();
    Add(FindingId::kQkSwapped, Outcome::kBroken, Take(Fault::kHeadsQk));
    Add(FindingId::kKvSwapped, Outcome::kBroken, Take(Fault::kHeadsKv));
    Add(FindingId::kKvLayout, Outcome::kBroken,
        Take([&](const WeightMatch& match) {
          return match.difference->fault == Fault::kHeadOrder ||
                 (match.role.part == Part::kO && !match.role.bias &&
                  (match.difference->fault == Fault::kPartly ||
                   match.difference->fault == Fault::kDiffers) &&
                  layers.count(match.role.layer) > 0);
        }));
    Add(FindingId::kRopeInterleaved, Outcome::kBroken,
        Take(Fault::kInterleaved));
    Add(FindingId::kTransposedWeight, Outcome::kBroken,
        Take(Fault::kTransposed));
    Add(FindingId::kNormWeights, Outcome::kBroken, Take(Fault::kNormOffset),
        "Weights of norms are off by one: this family scales by 1 + w or by "
        "w, the file the other way.");
  }

  void Zeros() {
    const Matches zeros = Take([](const WeightMatch& match) {
      return match.difference->fault == Fault::kZero;
    });
    std::set<int32_t> o, down;
    for (const WeightMatch* match : zeros) {
      if (match->role.bias) continue;
      if (match->role.part == Part::kO) o.insert(match->role.layer);
      if (match->role.part == Part::kDown) down.insert(match->role.layer);
    }
    Matches skipped, bias, head, rest;
    for (const WeightMatch* match : zeros) {
      const WeightRole& role = match->role;
      const bool skips = !role.bias &&
                         (role.part == Part::kO || role.part == Part::kDown) &&
                         o.count(role.layer) > 0 && down.count(role.layer) > 0;
      if (skips) {
        skipped.push_back(match);
      } else if (role.bias && IsAttentionInput(role.part)) {
        bias.push_back(match);
      } else if (role.part == Part::kHead && !role.bias) {
        head.push_back(match);
      } else {
        rest.push_back(match);
      }
    }
    Add(FindingId::kLayerSkipped, Outcome::kBroken, skipped);
    Add(FindingId::kAttentionBiasMissing, Outcome::kBroken, bias);
    Add(FindingId::kConstantLogits, Outcome::kBroken, head);
    open_.insert(open_.end(), rest.begin(), rest.end());
  }

  void Quantisation() {
    Add(FindingId::kQuantisationCollapse, Outcome::kBroken,
        Take(Fault::kCollapse));
    Add(FindingId::kQuantisationRounding, Outcome::kDegraded,
        Take(Fault::kRounding));
    // 1 / cap is folded into the head, and cap multiplies the capped logits.
    const Matches capped = Take([&](const WeightMatch& match) {
      return match.difference->fault == Fault::kScale &&
             match.role.part == Part::kHead && audit_.logit_softcap;
    });
    Add(FindingId::kSoftCapping, Outcome::kBroken, capped,
        fmt::format("The LM head is scaled for soft-capping of logits other "
                    "than the checkpoint's, at {:g}.",
                    audit_.logit_softcap.value_or(0)));
    const Matches small = Take([](const WeightMatch& match) {
      return match.difference->fault == Fault::kScale &&
             match.difference->factor > 0 &&
             std::fabs(match.difference->factor - 1) < kSmallFactor;
    });
    Add(FindingId::kScale, Outcome::kDegraded, small);
    Add(FindingId::kScale, Outcome::kBroken, Take(Fault::kScale));
    Add(FindingId::kPrecisionLoss, Outcome::kDegraded, Take(Fault::kPrecision));
  }

  // What is left: tensors that differ one by one.
  void Single() {
    const auto take = [&](const std::function<bool(const WeightRole&)>& what) {
      return Take([&](const WeightMatch& match) { return what(match.role); });
    };
    // One table may be both.
    std::set<std::string> tables;
    for (const WeightMatch* match : open_) {
      if (match->role.part == Part::kEmbedding && !audit_.own_head) {
        tables.insert(match->difference->text);
      }
    }
    Add(FindingId::kEmbedding, Outcome::kBroken,
        Take([&](const WeightMatch& match) {
          return match.role.part == Part::kEmbedding ||
                 (match.role.part == Part::kHead && !match.role.bias &&
                  tables.count(match.difference->text) > 0);
        }));
    Add(FindingId::kLmHead, Outcome::kBroken,
        take([](const WeightRole& role) { return role.part == Part::kHead; }));
    Add(FindingId::kNormWeights, Outcome::kBroken,
        take([](const WeightRole& role) { return IsNorm(role.part); }));
    Matches few, many;
    for (const WeightMatch* match : Take([](const auto&) { return true; })) {
      // A small part alone.
      const bool partly = match->difference->fault == Fault::kPartly &&
                          match->bad * 20 < match->elements;
      (partly ? few : many).push_back(match);
    }
    Add(FindingId::kWeightDiffers, Outcome::kBroken, many);
    Add(FindingId::kWeightDiffers, Outcome::kDegraded, few,
        "Some numbers of the file's weights are not the checkpoint's.");
  }

  void Missing() {
    std::vector<std::string> names;
    bool bias = true;
    for (const MissingTensor& tensor : audit_.missing) {
      if (tensor.explained) continue;
      bias &= tensor.name.ends_with(".bias");
      names.push_back(tensor.name);
    }
    if (names.empty()) return;
    const size_t count = names.size();
    if (count > kMostLines) names.resize(kMostLines);
    findings_.push_back(MakeFinding(
        {.id = bias ? FindingId::kAttentionBiasMissing
                    : FindingId::kWeightDiffers,
         .evidence = fmt::format("{}", fmt::join(names, "\n")),
         .sentence = fmt::format(
             "{} tensors of the checkpoint are nowhere in the file.", count)}));
  }

  const WeightAudit& audit_;
  Matches open_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> FindingsOf(const WeightAudit& audit) {
  std::vector<Finding> findings = Judgement(audit).Find();
  std::stable_sort(findings.begin(), findings.end(),
                   [](const Finding& a, const Finding& b) {
                     return a.severity > b.severity;
                   });
  return findings;
}

}  // namespace verify_tflite
