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

bool IsAttention(Part part) {
  return part == Part::kQ || part == Part::kK || part == Part::kV ||
         part == Part::kQkv;
}

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

  void Add(std::string id, Outcome severity, std::string sentence,
           const Matches& matches, std::string cause, std::string remedy) {
    if (matches.empty()) return;
    findings_.push_back({std::move(id), severity, std::move(sentence),
                         Lines(matches), std::move(cause), std::move(remedy)});
  }

  void ZeroScale() {
    if (audit_.zero_scales.constants == 0) return;
    findings_.push_back(
        {"zero-scale", Outcome::kBroken,
         "Quantised tensors have scales of 0, which no runtime loads.",
         Describe(audit_.zero_scales),
         "a row or block of zeros (padding of the vocabulary, a pruned output) "
         "quantised in blocks, or by OCTAV, MSE or a Hadamard recipe",
         "quantise that tensor by minimum and maximum, one scale a row, or "
         "give its zeros a small value before"});
  }

  void FewerBits() {
    Add("checkpoint-rounded", Outcome::kDegraded,
        "The checkpoint is a 16-bit copy of what was converted: its numbers "
        "are "
        "the file's, rounded.",
        Take(Fault::kFewerBits),
        "the checkpoint was saved in float16 or bfloat16 after the conversion, "
        "or converted before it was rounded",
        "verify against the checkpoint that was converted; or convert this "
        "one, "
        "if this is what should be shipped");
  }

  void NotFinite() {
    Add("nan", Outcome::kBroken,
        "Weights of the file are not finite, so nor are its outputs.",
        Take(Fault::kNotFinite),
        "the file is damaged, or a number overflowed the type it is stored in",
        "convert again, to float32 or bfloat16 where numbers overflow float16");
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
      Add("lora-not-merged", Outcome::kBroken,
          "The file has the base model's weights where the checkpoint has "
          "those with an adapter (LoRA) merged in, or the other way round.",
          Take(differs),
          "the conversion read the base model, or the adapter was merged into "
          "the checkpoint later: the difference is of low rank, as an "
          "adapter's "
          "is",
          "merge the adapter (peft: merge_and_unload), save, and convert that");
      return;
    }
    if (differ < 2 || differ < kMost * matrices) return;
    correlation /= static_cast<double>(differ);
    if (related * 2 < differ) {
      Add("wrong-checkpoint", Outcome::kBroken,
          "The file was made from another model of the same shape.",
          Take(differs),
          fmt::format("{} of {} matrices are unrelated to the checkpoint's "
                      "(mean correlation {:.3f})",
                      differ, matrices, correlation),
          "convert this checkpoint, or verify against the other one");
    } else {
      Add("wrong-checkpoint", Outcome::kBroken,
          "The file was made from a relative of the checkpoint: its base "
          "model, its fine-tune, or an earlier state.",
          Take(differs),
          fmt::format("{} of {} matrices differ from the checkpoint's, but are "
                      "similar to them (mean correlation {:.4f})",
                      differ, matrices, correlation),
          "convert this checkpoint, or verify against the other one");
    }
  }

  void LayerOrder() {
    Add("layer-order", Outcome::kBroken,
        "Layers of the file hold other layers' weights.",
        Take([](const WeightMatch& match) {
          const auto& other = match.difference->other;
          return other && other->part == match.role.part &&
                 other->bias == match.role.bias;
        }),
        "layers were assigned in another order, e.g. sorted by name as text",
        "check how the conversion maps names of layers");
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
    const char* names = "the conversion maps names of tensors wrongly";
    const char* check = "check how the conversion maps names of tensors";
    Add("tied-head", Outcome::kBroken,
        "The file uses the embedding as LM head, where the checkpoint has a "
        "head of its own.",
        take([](Part x, Part y) {
          return x == Part::kHead && y == Part::kEmbedding;
        }),
        "the conversion takes the two for tied",
        "convert with tie_word_embeddings as in config.json, false");
    Add("gate-up-swapped", Outcome::kBroken,
        "gate and up of the MLP are in each other's place.",
        take(both(Part::kGate, Part::kUp)), names, check);
    Add("qk-swapped", Outcome::kBroken,
        "q and k of attention are in each other's place.",
        take(both(Part::kQ, Part::kK)), names, check);
    Add("kv-swapped", Outcome::kBroken,
        "k and v of attention are in each other's place.",
        take(both(Part::kK, Part::kV)), names, check);
    Add("norm-weights", Outcome::kBroken,
        "Norms of the file hold other norms' weights.",
        take([](Part x, Part y) { return IsNorm(x) && IsNorm(y); }), names,
        check);
    Add("weight-differs", Outcome::kBroken,
        "Weights of the file are those of other places of the checkpoint.",
        Take(Fault::kOtherTensor), names, check);
  }

  void Heads() {
    const std::set<int32_t> layers = LayersWithMovedHeads();
    const char* cause = "the rows of q, k and v were fused in another order";
    const char* check = "check how the conversion fuses or permutes q, k and v";
    Add("qk-swapped", Outcome::kBroken,
        "Heads of q and k are in each other's place.", Take(Fault::kHeadsQk),
        cause, check);
    Add("kv-swapped", Outcome::kBroken,
        "Heads of k and v are in each other's place.", Take(Fault::kHeadsKv),
        cause, check);
    Add("kv-layout", Outcome::kBroken,
        "Attention heads are in another order, so that queries meet the wrong "
        "keys.",
        Take([&](const WeightMatch& match) {
          return match.difference->fault == Fault::kHeadOrder ||
                 (match.role.part == Part::kO && !match.role.bias &&
                  (match.difference->fault == Fault::kPartly ||
                   match.difference->fault == Fault::kDiffers) &&
                  layers.count(match.role.layer) > 0);
        }),
        cause, check);
    Add("rope-interleaved", Outcome::kBroken,
        "q and k have their rows in the order of Meta's checkpoints, but the "
        "file's RoPE turns halves.",
        Take(Fault::kInterleaved),
        "weights were permuted for another implementation of RoPE",
        "convert from the Hugging Face form of the checkpoint");
    Add("transposed-weight", Outcome::kBroken,
        "A matrix of the file is the transpose of the checkpoint's.",
        Take(Fault::kTransposed), "", "check the conversion of that tensor");
    Add("norm-weights", Outcome::kBroken,
        "Weights of norms are off by one: this family scales by 1 + w or by "
        "w, the file the other way.",
        Take(Fault::kNormOffset), "", "check the norm of the conversion");
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
      } else if (role.bias && IsAttention(role.part)) {
        bias.push_back(match);
      } else if (role.part == Part::kHead && !role.bias) {
        head.push_back(match);
      } else {
        rest.push_back(match);
      }
    }
    Add("layer-skipped", Outcome::kBroken,
        "A layer adds nothing: what attention and MLP are projected with is "
        "zero.",
        skipped, "", "convert again");
    Add("attention-bias-missing", Outcome::kBroken,
        "Biases of q, k and v are zero in the file, but not in the checkpoint.",
        bias, "the conversion leaves biases out",
        "convert with biases of q, k and v");
    Add("constant-logits", Outcome::kBroken,
        "The LM head is zero, so that all logits are the same.", head, "",
        "convert again");
    open_.insert(open_.end(), rest.begin(), rest.end());
  }

  void Quantisation() {
    Add("quantisation-collapse", Outcome::kBroken,
        "Weights were quantised to a fraction of the range they need.",
        Take(Fault::kCollapse), "ranges were clipped or estimated wrongly",
        "quantise again with ranges from the weights themselves");
    Add("quantisation-rounding", Outcome::kDegraded,
        "Weights were not rounded to the nearest value, which doubles the "
        "error of quantisation.",
        Take(Fault::kRounding), "the quantiser truncates",
        "quantise again, rounding to the nearest");
    // 1 / cap is folded into the head, and cap multiplies the capped logits.
    const Matches capped = Take([&](const WeightMatch& match) {
      return match.difference->fault == Fault::kScale &&
             match.role.part == Part::kHead && audit_.logit_softcap;
    });
    Add("soft-capping", Outcome::kBroken,
        fmt::format("The LM head is scaled for soft-capping of logits other "
                    "than the checkpoint's, at {:g}.",
                    audit_.logit_softcap.value_or(0)),
        capped, "", "convert with final_logit_softcapping of config.json");
    const Matches small = Take([](const WeightMatch& match) {
      return match.difference->fault == Fault::kScale &&
             match.difference->factor > 0 &&
             std::fabs(match.difference->factor - 1) < kSmallFactor;
    });
    Add("scale", Outcome::kDegraded,
        "Weights are a little larger or smaller than the checkpoint's, by a "
        "factor.",
        small, "", "check the scales of the quantiser");
    Add("scale", Outcome::kBroken,
        "Weights are larger or smaller than the checkpoint's, by a factor.",
        Take(Fault::kScale), "", "check the scales of the quantiser");
    Add("precision-loss", Outcome::kDegraded,
        "Weights lost precision before they were stored.",
        Take(Fault::kPrecision),
        "the checkpoint was loaded in a type of fewer bits",
        "load the checkpoint in its own type");
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
    Add("embedding", Outcome::kBroken, "The embedding is not the checkpoint's.",
        Take([&](const WeightMatch& match) {
          return match.role.part == Part::kEmbedding ||
                 (match.role.part == Part::kHead && !match.role.bias &&
                  tables.count(match.difference->text) > 0);
        }),
        "", "check the vocabulary and added tokens of the conversion");
    Add("lm-head", Outcome::kBroken, "The LM head is not the checkpoint's.",
        take([](const WeightRole& role) { return role.part == Part::kHead; }),
        "", "check which tensor the conversion uses as head");
    Add("norm-weights", Outcome::kBroken,
        "Weights of norms are not the checkpoint's.",
        take([](const WeightRole& role) { return IsNorm(role.part); }), "",
        "convert again");
    Matches few, many;
    for (const WeightMatch* match : Take([](const auto&) { return true; })) {
      // A small part alone.
      const bool partly = match->difference->fault == Fault::kPartly &&
                          match->bad * 20 < match->elements;
      (partly ? few : many).push_back(match);
    }
    Add("weight-differs", Outcome::kBroken,
        "Weights of the file are not the checkpoint's.", many,
        "a tensor is stale, damaged or was changed by the conversion",
        "convert again from this checkpoint");
    Add("weight-differs", Outcome::kDegraded,
        "Some numbers of the file's weights are not the checkpoint's.", few,
        "a tensor is damaged or was changed by the conversion",
        "convert again from this checkpoint");
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
    findings_.push_back(
        {bias ? "attention-bias-missing" : "weight-differs", Outcome::kBroken,
         fmt::format("{} tensors of the checkpoint are nowhere in the file.",
                     count),
         fmt::format("{}", fmt::join(names, "\n")),
         "the conversion leaves them out, or puts other constants there",
         "check the conversion of these tensors"});
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
