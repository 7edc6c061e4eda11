#include "structure/structure_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <set>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "reference/reference.h"
#include "structure/expert_choice.h"
#include "structure/pad_mark.h"

namespace verify_tflite {
namespace {

constexpr std::string_view kLogits = "logits";
constexpr size_t kMostNotVerified = 20;

std::string StageName(const StageOf& stage) {
  return std::string(stage.logits ? kLogits : NameOf(stage.key.stage));
}

// With the number of the expert, where it is of one.
std::string FaultName(const StageOf& stage) {
  const int64_t expert = stage.key.expert;
  return StageName(stage) + (expert < 0 ? "" : fmt::format(" {}", expert));
}

// Tensors' names hold the path of the module.
std::string Shortened(const std::string& name) {
  constexpr size_t kMost = 60;
  if (name.size() <= kMost) return name;
  return fmt::format("…{}", std::string_view(name).substr(name.size() - kMost));
}

// In the order of computation: layer by layer, stage by stage.
std::tuple<int64_t, int64_t, int64_t, bool> OrderOf(const StageOf& stage) {
  const auto& [kind, number, expert] = stage.key;
  const int64_t layer = IsOfStream(kind) ? -1 : number;
  const bool first =
      kind == Stage::kEmbedding || kind == Stage::kStreamProjection;
  return {layer < 0 && !first ? std::numeric_limits<int64_t>::max() : layer,
          static_cast<int64_t>(kind), expert, stage.logits};
}

// What all layers have of a stage, as one.
void Merge(const StageOf& stage, const StageResult& result,
           StageAgreement& merged) {
  const int64_t rows = merged.rows + result.rows;
  if (merged.rows == 0 ||
      result.error / result.limit > merged.worst / merged.limit) {
    merged = {.stage = StageName(stage),
              .linear = !stage.logits && (IsLinear(stage.key.stage) ||
                                          UnrotatedOf(stage.key.stage)),
              .worst = result.error,
              .limit = result.limit,
              .steps = result.steps,
              .layer = stage.key.layer,
              .position = result.position};
  }
  merged.rows = rows;
}

// Signatures that store the same weights can share a pass of the reference.
bool SameWeights(const FileWeights& a, const FileWeights& b) {
  return std::equal(
      a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
        return x.first == y.first && x.second.view.read == y.second.view.read &&
               x.second.quantised_input == y.second.quantised_input &&
               x.second.rotation == y.second.rotation &&
               x.second.input_scale == y.second.input_scale;
      });
}

// From the file's weights: who makes a file does not know the signs before.
uint64_t SeedOf(const tflite::File& file) {
  constexpr size_t kMostBytes = 256;
  size_t seed = 0;
  for (const tflite::Constant& constant : file.constants) {
    const auto some =
        constant.data.first(std::min(constant.data.size(), kMostBytes));
    seed = seed * 0x100000001B3 ^
           std::hash<std::string_view>()(
               {reinterpret_cast<const char*>(some.data()), some.size()});
  }
  return seed;
}

}  // namespace

StructureCheck::StructureCheck(const Input& input)
    : model_(input.model),
      checkpoint_(input.checkpoint),
      file_(input.file),
      num_threads_(input.num_threads),
      progress_(input.progress) {
  for (const SignatureGraph& graph : file_.signatures) {
    const int64_t rows = RowsOf(model_.info(), graph.signature);
    if (rows == 0 || !graph.not_understood.empty()) continue;
    anchors_[graph.signature] =
        FindAnchors(file_, graph, checkpoint_.config(), rows);
  }
  recording_ =
      Record({.model = model_,
              .file = file_,
              .anchors = anchors_,
              .positions = PositionsOf(model_.info(), checkpoint_.config()),
              .ids = input.ids,
              .plain = input.plain,
              .num_threads = num_threads_,
              .progress = progress_});
}

StageResults StructureCheck::CompareAll(
    const std::string& only, const std::optional<Alternative>& alternative,
    std::optional<int64_t> last_layer, std::vector<KeyRow>* wrong_keys,
    RangeUses* ranges) const {
  StageResults all;
  std::set<const SignatureGraph*> done;
  for (const SignatureGraph& graph : file_.signatures) {
    if (done.contains(&graph)) continue;
    std::vector<const Snapshot*> snapshots;
    for (const Snapshot& s : recording_.snapshots) {
      if (s.graph == nullptr || !anchors_.contains(s.graph->signature) ||
          (!only.empty() && s.graph->signature != only) ||
          !SameWeights(s.graph->weights, graph.weights)) {
        continue;
      }
      snapshots.push_back(&s);
      done.insert(s.graph);
    }
    if (snapshots.empty()) continue;
    Reference reference =
        Reference::Open(checkpoint_, {.num_threads = num_threads_,
                                      .progress = progress_,
                                      .alternative = alternative,
                                      .weights = &graph.weights,
                                      .probe_seed = SeedOf(*file_.file),
                                      .all_experts = true});
    all.merge(CompareStages({.file = *file_.file,
                             .recording = recording_,
                             .snapshots = std::move(snapshots),
                             .anchors = anchors_,
                             .config = checkpoint_.config(),
                             .kv_type = model_.info().kv_type,
                             .last_layer = last_layer},
                            reference, wrong_keys, ranges));
  }
  return all;
}

const tflite::Graph& StructureCheck::GraphOf(
    const SignatureGraph& graph) const {
  return file_.file->graphs[static_cast<size_t>(graph.graph)];
}

const tflite::Op* StructureCheck::ProducerOf(const SignatureGraph& graph,
                                             int32_t tensor) const {
  const tflite::Graph& g = GraphOf(graph);
  const int32_t op = tensor < 0 ? -1 : g.tensors[tensor].producer;
  return op < 0 ? nullptr : &g.ops[op];
}

std::vector<StructureFault> StructureCheck::FaultsOf(
    const StageResults& results) const {
  std::vector<const StageResults::value_type*> wrong;
  for (const auto& entry : results) {
    if (!entry.second.ok()) wrong.push_back(&entry);
  }
  std::sort(wrong.begin(), wrong.end(), [](const auto* a, const auto* b) {
    return OrderOf(a->first) < OrderOf(b->first);
  });
  std::vector<StructureFault> faults;
  for (const auto* entry : wrong) {
    const auto& [stage, result] = *entry;
    StructureFault& fault = faults.emplace_back();
    fault = {.signature = stage.graph->signature,
             .stage = FaultName(stage),
             .layer = stage.key.layer,
             .position = result.position,
             .op = {},
             .tensor = {},
             .error = result.error,
             .limit = result.limit,
             .steps = result.steps};
    if (const tflite::Op* op = ProducerOf(*stage.graph, result.tensor)) {
      fault.op = KindOf(*op);
      fault.tensor = GraphOf(*stage.graph).tensors[result.tensor].name;
    }
  }
  return faults;
}

std::string StructureCheck::NameOf(const SignatureGraph& graph, int32_t op,
                                   const std::string& more) const {
  const tflite::Graph& ops = GraphOf(graph);
  const auto& outputs = ops.ops[static_cast<size_t>(op)].outputs;
  const tflite::Op* producer =
      outputs.empty() ? nullptr : ProducerOf(graph, outputs[0]);
  if (producer == nullptr) return "";
  return fmt::format("{}{} ({})", KindOf(*producer), more,
                     Shortened(ops.tensors[outputs[0]].name));
}

std::string StructureCheck::NameOf(const SignatureGraph& graph,
                                   const Threshold& threshold) const {
  return NameOf(graph, threshold.op,
                threshold.at ? fmt::format(" at {:g}", *threshold.at) : "");
}

std::vector<std::string> StructureCheck::NotesOnThresholds() const {
  struct Kind {
    int64_t count = 0;
    std::string first;
  };
  Kind half, other;
  for (const SignatureGraph& graph : file_.signatures) {
    if (!anchors_.contains(graph.signature)) continue;
    const tflite::Graph& ops =
        file_.file->graphs[static_cast<size_t>(graph.graph)];
    const std::vector<int32_t> needed = FindCoverage(ops, {}, {}).needed;
    const ExpertChoice choice(*file_.file, graph, checkpoint_.config().experts);
    const PadMark pads(ops, model_.info().pad_token);
    for (const Threshold& threshold :
         FindThresholds(*file_.file, ops, needed)) {
      if (IsOfModel(threshold, checkpoint_.config()) ||
          choice.IsPart(threshold) || pads.IsPart(threshold)) {
        continue;
      }
      Kind& kind = threshold.is_half_range() ? half : other;
      if (kind.count++ > 0) continue;
      kind.first =
          fmt::format("{} in {}", NameOf(graph, threshold), graph.signature);
    }
  }
  std::vector<std::string> notes;
  if (half.count > 0) {
    notes.push_back(fmt::format(
        "Operators of the file act only where float16 ends ({} of them, first "
        "{}): it was made for accelerators that compute in float16; PyTorch "
        "has no such limit.",
        half.count, half.first));
  }
  if (other.count > 0) {
    notes.push_back(fmt::format(
        "Operators of the file act beyond a threshold that the model does not "
        "have ({} of them, first {}): what they do to numbers that no run "
        "reached is not shown.",
        other.count, other.first));
  }
  return notes;
}

SignatureStructure StructureCheck::Describe(const SignatureGraph& graph,
                                            const StageResults& results) const {
  SignatureStructure description;
  description.signature = graph.signature;
  const tflite::Graph& ops =
      file_.file->graphs[static_cast<size_t>(graph.graph)];
  std::vector<int32_t> agreeing, differing;
  std::map<int64_t, StageAgreement> stages;  // in the order of computation
  for (const auto& [stage, result] : results) {
    if (stage.graph != &graph) continue;
    std::vector<int32_t>& tensors = result.ok() ? agreeing : differing;
    tensors.insert(tensors.end(), result.tensors.begin(), result.tensors.end());
    // Nor do they say anything about what is before them.
    differing.insert(differing.end(), result.not_compared.begin(),
                     result.not_compared.end());
    if (result.rows == 0) continue;
    if (stage.logits) {
      for (const auto& [name, tensor] : ops.outputs) {
        if (name.starts_with(kLogits)) tensors.push_back(tensor);
      }
    }
    Merge(stage, result,
          stages[2 * static_cast<int64_t>(stage.key.stage) + stage.logits]);
  }
  for (auto& [order, stage] : stages) description.stages.push_back(stage);
  Coverage coverage = FindCoverage(ops, agreeing, differing);
  std::map<int32_t, std::string> rest;  // by operator
  const ExpertChoice choice(*file_.file, graph, checkpoint_.config().experts);
  const PadMark pads(ops, model_.info().pad_token);
  for (const Threshold& threshold :
       FindThresholds(*file_.file, ops, coverage.needed)) {
    if (threshold.is_half_range() || choice.IsPart(threshold) ||
        pads.IsPart(threshold) || IsOfModel(threshold, checkpoint_.config())) {
      continue;
    }
    std::erase(coverage.verified, threshold.op);
    rest[threshold.op] = fmt::format("{}, which the model does not have",
                                     NameOf(graph, threshold));
  }
  description.ops = std::ssize(coverage.needed);
  description.verified_ops = std::ssize(coverage.verified);
  for (const int32_t op : coverage.needed) {
    if (std::ranges::binary_search(coverage.verified, op)) continue;
    if (description.not_verified.size() == kMostNotVerified) break;
    const auto [name, is_new] = rest.try_emplace(op);
    if (is_new) name->second = NameOf(graph, op, "");
    if (!name->second.empty()) description.not_verified.push_back(name->second);
  }
  for (const Snapshot& s : recording_.snapshots) {
    if (s.graph != &graph) continue;
    description.positions.emplace_back(s.begin, s.begin + std::ssize(s.tokens));
  }
  return description;
}

Structure StructureCheck::Compare() {
  wrong_keys_.clear();
  ranges_.clear();
  const StageResults results =
      CompareAll("", std::nullopt, std::nullopt, &wrong_keys_, &ranges_);
  Structure structure;
  structure.same_bits = recording_.same_bits;
  structure.faults = FaultsOf(results);
  for (const SignatureGraph& graph : file_.signatures) {
    if (RowsOf(model_.info(), graph.signature) == 0) continue;
    const bool ran =
        std::any_of(recording_.snapshots.begin(), recording_.snapshots.end(),
                    [&](const Snapshot& s) { return s.graph == &graph; });
    if (ran && graph.not_understood.empty()) {
      structure.signatures.push_back(Describe(graph, results));
      continue;
    }
    SignatureStructure& missing = structure.signatures.emplace_back();
    missing.signature = graph.signature;
    missing.not_run = graph.not_understood.empty() ? "it was not run as a whole"
                                                   : graph.not_understood;
  }
  return structure;
}

std::vector<TensorUse> StructureCheck::ranges() const {
  std::vector<TensorUse> uses;
  for (const auto& [key, use] : ranges_) {
    const auto& [graph, index] = key;
    const tflite::Op* op = ProducerOf(*graph, index);
    if (op == nullptr) continue;
    uses.push_back({.signature = graph->signature,
                    .op = KindOf(*op),
                    .tensor = GraphOf(*graph).tensors[index].name,
                    .use = use});
  }
  return uses;
}

std::optional<Routing> StructureCheck::MeasureExperts(
    Reference& reference) const {
  return MeasureRouting(recording_, anchors_, file_, checkpoint_.config(),
                        reference);
}

std::vector<ActivationError> StructureCheck::MeasureErrors(
    const std::set<int32_t>& constants) const {
  return MeasureActivationErrors(file_, recording_, constants, num_threads_);
}

std::vector<StructureFault> StructureCheck::FaultsUnder(
    const Alternative& alternative, std::optional<int64_t> last_layer) const {
  for (const SignatureGraph& graph : file_.signatures) {
    if (!IsDecode(graph.signature)) continue;
    if (!anchors_.contains(graph.signature)) continue;
    const StageResults results =
        CompareAll(graph.signature, alternative, last_layer, nullptr, nullptr);
    if (!results.empty()) return FaultsOf(results);
  }
  return {};
}

}  // namespace verify_tflite
