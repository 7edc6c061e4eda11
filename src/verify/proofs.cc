#include "verify/proofs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "audit/findings.h"
#include "audit/weight_audit.h"
#include "base/error.h"
#include "structure/position_check.h"
#include "verify/stopwatch.h"

namespace verify_tflite {

int64_t UnpackedBytes(const ModelInfo& model) {
  int64_t elements = 0;
  for (const WeightGroup& group : model.weights) {
    if (group.use == WeightGroup::Use::kDequantized) elements += group.elements;
  }
  const auto signatures = static_cast<int64_t>(model.prefills.size()) + 1;
  return elements * static_cast<int64_t>(sizeof(float)) * signatures;
}

namespace {

void Report(const WeightAudit& audit, Verification& v) {
  std::vector<Finding> findings = FindingsOf(audit);
  Check check;
  check.name = "weights";
  check.limit = 1;
  check.value = audit.weight_bytes == 0
                    ? 0
                    : static_cast<double>(audit.verified_bytes) /
                          static_cast<double>(audit.weight_bytes);
  check.detail = DescribeProof(audit);
  if (!findings.empty()) {
    for (const Finding& f : findings) {
      check.outcome = std::max(check.outcome, f.severity);
    }
  } else if (audit.weight_bytes > 0 &&
             audit.verified_bytes == audit.weight_bytes) {
    check.outcome = Outcome::kPass;
  } else {
    check.detail += "; `verify_tflite weights` lists what was not covered";
  }
  std::vector<Check>& checks = v.checks[CheckGroup::kWeights];
  // "tables" may stand behind it.
  if (checks.empty()) checks.emplace_back();
  checks[0] = std::move(check);
  for (Finding& finding : findings) v.findings.push_back(std::move(finding));
}

void NoteUnused(const WeightAudit& audit, Verification& v) {
  std::vector<std::string> unused;
  for (const MissingTensor& tensor : audit.missing) {
    if (tensor.reason == kNotUsed) unused.push_back(tensor.name);
  }
  if (unused.empty()) return;
  v.notes.push_back(fmt::format(
      "config.json does not ask for {} of the checkpoint ({}{}), and "
      "transformers leaves {} aside, too. If the model should use {}, "
      "config.json is wrong.",
      unused.size() == 1 ? "a tensor"
                         : fmt::format("{} tensors", unused.size()),
      unused.front(), unused.size() == 1 ? "" : " and others",
      unused.size() == 1 ? "it" : "them", unused.size() == 1 ? "it" : "them"));
}

}  // namespace

WeightAudit ProveWeights(const VerifyInput& input, const ModelMap& map,
                         Verification& v) {
  const Stopwatch watch(v.timing.weights);
  if (input.progress) input.progress("weights", 0, 0);
  WeightAudit audit = AuditWeights(map, input.settings.num_threads);
  Report(audit, v);
  NoteUnused(audit, v);
  return audit;
}

namespace {

// Of numbers: what a shape, an axis or a scalar takes.
constexpr int64_t kSmall = 16;

// Every operator that reads the constant, in a signature that runs, is one of
// those that were run at all positions.
bool IsReadForPositionsAlone(const FileGraph& file, const ModelInfo& model,
                             int32_t constant) {
  for (const tflite::Graph& graph : file.file->graphs) {
    // Others are parts of composites, or are not run.
    const bool runs = RowsOf(model, graph.signature) > 0;
    if (!runs && !graph.signature.empty()) continue;
    const PositionPart part = runs ? FindPositionPart(graph) : PositionPart{};
    for (const tflite::Tensor& tensor : graph.tensors) {
      if (tensor.constant != constant) continue;
      for (const int32_t op : tensor.consumers) {
        if (!std::ranges::binary_search(part.ops, op)) return false;
      }
    }
  }
  return true;
}

// Scales of the blocks of another constant, say, which are compared with that.
bool IsReadByNoOperator(const tflite::File& file, int32_t constant) {
  for (const tflite::Graph& graph : file.graphs) {
    for (const tflite::Tensor& tensor : graph.tensors) {
      if (tensor.constant == constant && !tensor.consumers.empty()) {
        return false;
      }
    }
  }
  return true;
}

// Whether it says which of several residual streams to take, alike
// for all tokens and all numbers of a token: what it does shows in any row.
bool IsMaskOfStreams(const tflite::File& file, int32_t index,
                     int64_t num_streams) {
  const tflite::Constant& constant = file.constants[index];
  const auto size = static_cast<int64_t>(constant.data.size());
  if (num_streams == 0 || constant.shape.empty() ||
      constant.shape[0] != num_streams || size == 0 ||
      size % num_streams != 0) {
    return false;
  }
  for (const tflite::Graph& graph : file.graphs) {
    const bool other =
        std::ranges::any_of(graph.tensors, [&](const tflite::Tensor& tensor) {
          return tensor.constant == index && tensor.type != ElementType::kBool;
        });
    if (other) return false;
  }
  const auto part = static_cast<size_t>(size / num_streams);
  for (size_t begin = 0; begin < constant.data.size(); begin += part) {
    const auto numbers = constant.data.subspan(begin, part);
    if (std::ranges::any_of(numbers, [&](std::byte value) {
          return value != numbers.front();
        })) {
      return false;
    }
  }
  return true;
}

// Whether it counts a signature's rows, from 0 on or, as indices from the end
// are turned, from their number on: by these, each row gathers what is its own.
bool CountsRows(const tflite::File& file, int32_t index) {
  const tflite::Constant& constant = file.constants[static_cast<size_t>(index)];
  std::vector<int32_t> numbers(constant.data.size() / sizeof(int32_t));
  const auto rows = static_cast<int32_t>(numbers.size());
  if (rows == 0) return false;
  std::memcpy(numbers.data(), constant.data.data(),
              numbers.size() * sizeof(int32_t));
  if (numbers[0] != 0 && numbers[0] != rows) return false;
  for (int32_t i = 0; i < rows; ++i) {
    if (numbers[static_cast<size_t>(i)] != numbers[0] + i) return false;
  }
  for (const tflite::Graph& graph : file.graphs) {
    for (const tflite::Tensor& tensor : graph.tensors) {
      if (tensor.constant != index) continue;
      if (tensor.type != ElementType::kInt32) return false;
      for (const int32_t op : tensor.consumers) {
        const int32_t code = graph.ops[static_cast<size_t>(op)].code;
        if (code != tflite::kOpSelectV2 && code != tflite::kOpSelect) {
          return false;
        }
      }
    }
  }
  return true;
}

// Whether it is a bias of convolutions that adds nothing.
bool IsZeroBias(const tflite::File& file, int32_t index) {
  const tflite::Constant& constant = file.constants[static_cast<size_t>(index)];
  if (std::ranges::any_of(constant.data,
                          [](std::byte b) { return b != std::byte{0}; })) {
    return false;
  }
  for (const tflite::Graph& graph : file.graphs) {
    for (const tflite::Tensor& tensor : graph.tensors) {
      if (tensor.constant != index) continue;
      for (const int32_t i : tensor.consumers) {
        const tflite::Op& op = graph.ops[static_cast<size_t>(i)];
        if (op.code != tflite::kOpDepthwiseConv2d || op.inputs.size() != 3 ||
            graph.tensors[static_cast<size_t>(op.inputs[2])].constant !=
                index) {
          return false;
        }
      }
    }
  }
  return true;
}

struct Accounted {
  int64_t bytes = 0;
  int64_t of = 0;
  std::vector<std::string> left;  // names of those that are not
};

Accounted AccountFor(const WeightAudit& audit, const FileGraph& file,
                     const Model& opened, int64_t num_streams) {
  const ModelInfo& model = opened.info();
  const auto parts = opened.container()->model_parts();
  Accounted result;
  for (const OtherConstant& constant : audit.others) {
    result.of += constant.bytes;
    const bool small = constant.bytes <= kSmall * 8;
    // The model's; an embedder has no positions.
    const bool table = constant.input == 0 &&
                       IsReadForPositionsAlone(file, model, constant.constant);
    const bool unread =
        IsReadByNoOperator(parts[constant.input]->file(), constant.constant);
    const bool of_streams = IsMaskOfStreams(parts[constant.input]->file(),
                                            constant.constant, num_streams);
    const bool counts =
        CountsRows(parts[constant.input]->file(), constant.constant);
    const bool adds_nothing =
        IsZeroBias(parts[constant.input]->file(), constant.constant);
    if (small || table || unread || of_streams || counts || adds_nothing) {
      result.bytes += constant.bytes;
    } else {
      result.left.push_back(
          fmt::format("{} ({} bytes)", constant.name, constant.bytes));
    }
  }
  return result;
}

std::string Describe(const PositionFault& f) {
  return fmt::format(
      "{}: {} (tensor {}) at {} position{}, {} to {}: {:g} at position {}, "
      "column {}, config.json asks for {:g}",
      f.signature, f.what, f.tensor, f.positions, f.positions == 1 ? "" : "s",
      f.first, f.last, f.found, f.at, f.column, f.expected);
}

// What a fault of a table is called.
struct TableFinding {
  FindingId id;
  Outcome severity;
  const char* sentence;  // empty: that of its page
};

TableFinding FindingFor(PositionFault::Kind kind) {
  using Kind = PositionFault::Kind;
  switch (kind) {
    case Kind::kRope:
      return {FindingId::kRopeTable, Outcome::kDegraded, ""};
    case Kind::kMask:
      return {FindingId::kMask, Outcome::kBroken,
              "The mask of attention is wrong at some positions."};
    case Kind::kWindow:
      return {FindingId::kSlidingWindow, Outcome::kBroken,
              "The mask of a sliding window is wrong at some positions."};
    case Kind::kPlace:
      return {FindingId::kKvUpdate, Outcome::kBroken,
              "Keys and values are written to wrong places at some positions."};
    case Kind::kQueryScale:
      return {FindingId::kAttentionScale, Outcome::kBroken,
              "Queries are scaled otherwise at some positions."};
  }
  return {};
}

std::vector<Finding> FindingsOf(const std::vector<PositionFault>& faults) {
  std::vector<Finding> findings;
  for (const PositionFault& fault : faults) {
    const TableFinding kind = FindingFor(fault.kind);
    const auto same = std::ranges::find(findings, kind.id, &Finding::id);
    if (same != findings.end()) {
      same->evidence += "\n" + Describe(fault);
      continue;
    }
    findings.push_back(MakeFinding({.id = kind.id,
                                    .severity = kind.severity,
                                    .evidence = Describe(fault),
                                    .sentence = kind.sentence}));
  }
  return findings;
}

}  // namespace

std::vector<Finding> ShortTableFindings(const Model& model,
                                        const FileGraph& graph) {
  const std::vector<ShortTable> tables = FindShortTables(model, *graph.file);
  if (tables.empty()) return {};
  const auto shortest =
      std::ranges::min_element(tables, {}, &ShortTable::first);
  std::string evidence;
  for (const ShortTable& table : tables) {
    evidence += fmt::format(
        "{}{}: from position {} on{}: {}", evidence.empty() ? "" : "\n",
        table.signature, table.first,
        table.table.empty()
            ? ""
            : fmt::format(", where a table of shape {} ends", table.table),
        table.error);
  }
  return {MakeFinding(
      {.id = FindingId::kTableTooShort,
       .evidence = std::move(evidence),
       .sentence = fmt::format(
           "A table ends before the KV cache does: the runtime fails at "
           "position {}, and the KV cache has {}.",
           shortest->first, shortest->positions)})};
}

std::vector<Finding> ProveTables(const VerifyInput& input,
                                 const FileGraph& graph,
                                 const WeightAudit& audit,
                                 const Reference& reference, Verification& v) {
  const Stopwatch watch(v.timing.weights);
  Check check;
  check.name = "tables";
  check.limit = 1;
  PositionResult result;
  try {
    result = CheckPositions(
        input.model, *graph.file, input.checkpoint.config(),
        {reference.RopeFrequencies(false), reference.RopeFrequencies(true)});
  } catch (const Error& error) {
    // Of the part that was run alone, not of the model: that runs.
    result.gaps.push_back(error.what());
  }
  const Accounted accounted = AccountFor(audit, graph, input.model,
                                         input.checkpoint.config().num_streams);
  check.value = accounted.of == 0 ? 1
                                  : static_cast<double>(accounted.bytes) /
                                        static_cast<double>(accounted.of);
  check.detail = fmt::format(
      "{} of {} bytes of tables and scalars explained; {} tensors of positions "
      "at all {} positions{}",
      accounted.bytes, accounted.of, result.tensors, result.positions,
      result.kinds.empty()
          ? ""
          : fmt::format(": {}", fmt::join(result.kinds, ", ")));
  std::vector<Finding> findings = FindingsOf(result.faults);
  if (!findings.empty()) {
    for (const Finding& f : findings) {
      check.outcome = std::max(check.outcome, f.severity);
    }
    check.detail += "; " + Describe(result.faults.front());
  } else if (result.gaps.empty() && accounted.left.empty()) {
    check.outcome = Outcome::kPass;
  } else {
    const std::string gap =
        result.gaps.empty()
            ? fmt::format("not explained: {}", accounted.left.front())
            : result.gaps.front();
    check.detail += fmt::format(
        "; {}{}", gap,
        result.gaps.size() + accounted.left.size() > 1 ? " and others" : "");
  }
  v.checks[CheckGroup::kWeights].push_back(std::move(check));
  return findings;
}

void ProveCalibrated(const StructureCheck& structure, WeightAudit& audit,
                     Verification& v) {
  std::set<int32_t> constants;
  for (const WeightMatch& match : audit.matches) {
    if (match.status == WeightMatch::Status::kCalibrated && match.input == 0) {
      constants.insert(match.constant);
    }
  }
  if (constants.empty()) return;
  const Stopwatch watch(v.timing.weights);
  // What the audit found is found again.
  for (const Finding& known : FindingsOf(audit)) {
    const auto same = [&](const Finding& f) {
      return f.id == known.id && f.sentence == known.sentence;
    };
    std::erase_if(v.findings, same);
  }
  SettleCalibrated(structure.MeasureErrors(constants), audit);
  Report(audit, v);
}

std::unique_ptr<StructureCheck> ProveStructure(
    const VerifyInput& input, const FileGraph& graph,
    std::span<const int32_t> ids, std::optional<Session> session,
    std::span<const int64_t> compiled, Verification& v) {
  const Stopwatch watch(v.timing.structure);
  v.structure.emplace();
  try {
    const ModelInfo& info = input.model.info();
    const PlainLogits plain =
        RunPlain(info, PositionsOf(info, input.checkpoint.config()), *session,
                 compiled, ids);
    session.reset();
    auto check = std::make_unique<StructureCheck>(
        StructureCheck::Input{.model = input.model,
                              .checkpoint = input.checkpoint,
                              .file = graph,
                              .ids = ids,
                              .plain = plain,
                              .num_threads = input.settings.num_threads,
                              .progress = input.progress});
    v.structure = check->Compare();
    for (std::string& note : check->NotesOnThresholds()) {
      v.notes.push_back(std::move(note));
    }
    return check;
  } catch (const Error& error) {
    // Of taps, not of the model: that ran before.
    v.structure->not_run = error.what();
    return nullptr;
  }
}

}  // namespace verify_tflite
