// SPDX-License-Identifier: Apache-2.0
#include "structure/routing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <vector>

#include "reference/experts.h"
#include "result/judge.h"
#include "result/metrics.h"

namespace verify_tflite {
namespace {

// By layer: [rows, experts].
using RouterRows = std::map<int64_t, std::vector<float>>;

// What chooses the experts, and their weights.
struct Choices {
  RouterRows routers, weights;
};

const Snapshot* FirstText(const Recording& recording) {
  const Snapshot* longest = nullptr;
  for (const Snapshot& s : recording.snapshots) {
    if (!s.real_text || s.begin != 0 || s.graph == nullptr) continue;
    if (longest == nullptr || s.tokens.size() > longest->tokens.size()) {
      longest = &s;
    }
  }
  return longest;
}

class Measurement {
 public:
  Measurement(const Snapshot& text, const Anchors& anchors,
              const ModelConfig& config, Reference& reference)
      : text_(text),
        anchors_(anchors),
        config_(config.experts),
        reference_(reference),
        count_(static_cast<size_t>(config.experts.count)) {
    for (int64_t i = 0; i < std::ssize(config.layers); ++i) {
      if (config.layers[static_cast<size_t>(i)].experts) layers_.push_back(i);
    }
  }

  std::optional<Routing> Run() {
    // In prefill the last layer's lead to no output.
    std::erase_if(layers_, [&](int64_t layer) { return !ReadFile(layer); });
    if (layers_.empty()) return std::nullopt;
    std::vector<std::vector<float>> own, forced;
    Score(own, [&](const Captured& captured) { Keep(captured); });
    Count();
    if (routing_.differing == 0) return routing_;
    std::vector<float> router;
    Score(forced, [&](const Captured& captured) {
      if (captured.stage == Stage::kRouter) {
        router.assign(captured.values.begin(), captured.values.end());
      } else if (captured.stage == Stage::kExpertWeights &&
                 file_.weights.contains(captured.layer)) {
        Force(captured, router);
      }
    });
    for (size_t i = 0; i < own.size(); ++i) {
      routing_.kld +=
          Compare(own[i], forced[i]).kld / static_cast<double>(own.size());
    }
    return routing_;
  }

 private:
  size_t rows() const { return text_.tokens.size(); }

  // The file's numbers of one layer; false where the signature has none.
  bool ReadFile(int64_t layer) {
    const auto router = anchors_.find({Stage::kRouter, layer});
    const auto weights = anchors_.find({Stage::kExpertWeights, layer});
    if (router == anchors_.end() || weights == anchors_.end()) return false;
    const auto scores = text_.tensors.find(router->second.tensors.front());
    if (scores == text_.tensors.end() ||
        scores->second.size() != rows() * count_) {
      return false;
    }
    file_.routers[layer] = scores->second;
    std::vector<float>& all = file_.weights[layer];
    all.resize(rows() * count_);
    for (size_t e = 0; e < count_; ++e) {
      const auto column = text_.tensors.find(weights->second.tensors[e]);
      if (column == text_.tensors.end() || column->second.size() != rows()) {
        return false;
      }
      for (size_t i = 0; i < rows(); ++i) {
        all[i * count_ + e] = column->second[i];
      }
    }
    return true;
  }

  void Score(std::vector<std::vector<float>>& logits,
             const CaptureFn& capture) {
    Sequence sequence = reference_.NewSequence();
    const Reference::Item item = {&sequence, text_.tokens,
                                  std::ssize(text_.tokens)};
    logits.resize(rows());
    reference_.Score(
        std::span(&item, 1),
        [&](size_t, int64_t row, std::span<const float> values) {
          logits[static_cast<size_t>(row)].assign(values.begin(), values.end());
        },
        capture);
  }

  void Keep(const Captured& captured) {
    const std::span<const float> values = captured.values;
    if (captured.stage == Stage::kRouter) {
      own_.routers[captured.layer].assign(values.begin(), values.end());
    } else if (captured.stage == Stage::kExpertWeights) {
      own_.weights[captured.layer].assign(values.begin(), values.end());
    }
  }

  // Makes the pass take the file's experts, weighted as its own scores say.
  void Force(const Captured& captured, const std::vector<float>& router) const {
    for (size_t i = 0; i < rows(); ++i) {
      const auto row = captured.values.subspan(i * count_, count_);
      std::copy_n(router.begin() + static_cast<int64_t>(i * count_), count_,
                  row.begin());
      WeighTaken(config_, TakenBy(file_.weights, captured.layer, i), row);
    }
  }

  std::vector<size_t> TakenBy(const RouterRows& weights, int64_t layer,
                              size_t row) const {
    std::vector<size_t> taken;
    const std::vector<float>& all = weights.at(layer);
    for (size_t e = 0; e < count_; ++e) {
      if (all[row * count_ + e] != 0) taken.push_back(e);
    }
    return taken;
  }

  void Count() {
    routing_.positions = std::ssize(text_.tokens);
    routing_.layers = std::ssize(layers_);
    routing_.choices = routing_.positions * routing_.layers;
    for (size_t i = 0; i < rows(); ++i) {
      bool differs = false;
      for (const int64_t layer : layers_) {
        const auto own = TakenBy(own_.weights, layer, i);
        const auto file = TakenBy(file_.weights, layer, i);
        if (own == file) continue;
        differs = true;
        ++routing_.differing;
        routing_.ties += IsTieOf(layer, i, own, file);
      }
      routing_.differing_positions += differs;
    }
  }

  std::vector<float> ChosenBy(const Choices& of, int64_t layer,
                              size_t row) const {
    return ChoiceNumbers(
        config_, reference_.ChoiceBias(layer),
        std::span(of.routers.at(layer)).subspan(row * count_, count_));
  }

  // As IsTie has it of tokens, with what chooses for logits.
  bool IsTieOf(int64_t layer, size_t row, const std::vector<size_t>& own,
               const std::vector<size_t>& file) const {
    const std::vector<float> mine = ChosenBy(own_, layer, row);
    const std::vector<float> other = ChosenBy(file_, layer, row);
    double offset = 0, squares = 0;
    for (size_t e = 0; e < count_; ++e) offset += other[e] - mine[e];
    offset /= static_cast<double>(count_);
    for (size_t e = 0; e < count_; ++e) {
      const double d = other[e] - mine[e] - offset;
      squares += d * d;
    }
    const double noise = std::sqrt(squares / static_cast<double>(count_));
    float best = -INFINITY, least = INFINITY;
    for (const size_t e : own) {
      if (std::ranges::count(file, e) == 0) best = std::max(best, mine[e]);
    }
    for (const size_t e : file) {
      if (std::ranges::count(own, e) == 0) least = std::min(least, mine[e]);
    }
    return best - least <= kTieNoiseFactor * noise;
  }

  const Snapshot& text_;
  const Anchors& anchors_;
  const ExpertsConfig& config_;
  Reference& reference_;
  size_t count_;
  std::vector<int64_t> layers_;
  Choices file_, own_;
  Routing routing_;
};

bool IsInteger(ElementType type) {
  return type == ElementType::kInt8 || type == ElementType::kInt4 ||
         type == ElementType::kInt2;
}

void CountRouters(const tflite::File& file, const SignatureGraph& graph,
                  Routing& routing) {
  int64_t all = 0, quantised = 0;
  for (const Product& product : graph.products) {
    if (product.role.part != Part::kRouter || product.constant < 0) continue;
    const auto constant = static_cast<size_t>(product.constant);
    ++all;
    quantised += IsInteger(file.constants[constant].type);
  }
  if (all <= routing.routers) return;
  routing.routers = all;
  routing.quantised_routers = quantised;
}

}  // namespace

std::optional<Routing> MeasureRouting(const Recording& recording,
                                      const AnchorsBySignature& anchors,
                                      const FileGraph& file,
                                      const ModelConfig& config,
                                      Reference& reference) {
  if (config.experts.count == 0) return std::nullopt;
  const Snapshot* text = FirstText(recording);
  if (text == nullptr) return std::nullopt;
  const auto found = anchors.find(text->graph->signature);
  if (found == anchors.end()) return std::nullopt;
  auto routing = Measurement(*text, found->second, config, reference).Run();
  if (!routing) return std::nullopt;
  for (const SignatureGraph& graph : file.signatures) {
    CountRouters(*file.file, graph, *routing);
  }
  return routing;
}

std::vector<std::string> Describe(const Routing& routing) {
  std::vector<std::string> notes;
  const double share = 100 * static_cast<double>(routing.differing_positions) /
                       static_cast<double>(routing.positions);
  if (routing.differing > 0) {
    notes.push_back(fmt::format(
        "Experts: at {} of {} positions ({:.2g} %) the TFLite model takes "
        "others than PyTorch, {} of {} choices of {} layer{}; {} of them are "
        "ties, PyTorch's margin being within {:g} times the router's noise. "
        "PyTorch with these choices is {:.3g} nats (mean KL divergence) from "
        "PyTorch with its own.",
        routing.differing_positions, routing.positions, share,
        routing.differing, routing.choices, routing.layers,
        routing.layers == 1 ? "" : "s", routing.ties, kTieNoiseFactor,
        routing.kld));
  } else {
    notes.push_back(fmt::format(
        "Experts: the TFLite model takes the same as PyTorch at all {} "
        "positions, in {} layer{}.",
        routing.positions, routing.layers, routing.layers == 1 ? "" : "s"));
  }
  if (routing.quantised_routers > 0) {
    notes.push_back(fmt::format(
        "Routers are quantised in {} of {} layers. They are small, and what "
        "their rounding decides is which experts a token takes. Behind the "
        "other rules of the quantiser's recipe, {{\"regex\": "
        "\".*TopKRouter.*\", \"operation\": \"FULLY_CONNECTED\", "
        "\"algorithm_key\": \"no_quantize\"}} keeps them in float.",
        routing.quantised_routers, routing.routers));
  }
  return notes;
}

}  // namespace verify_tflite
