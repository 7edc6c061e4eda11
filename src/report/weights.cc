#include "report/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>

#include "base/utf8.h"
#include "report/json_value.h"

namespace verify_tflite {
namespace {

using Status = WeightMatch::Status;

constexpr size_t kMostListed = 12;

// Layers alike are one line.
struct Group {
  int64_t constants = 0;
  int64_t bytes = 0;
  int64_t elements = 0;
  int64_t cut_off = 0;
  double worst = 0;
  int64_t moved = 0;
  double moved_by = 0;
  double cut_off_by = 0;
  double bits = 0;  // times elements
  double most_bits = 0;
  double coarser_by = 1;  // at most
};

std::string Remarks(const std::string& layout, const std::string& quantiser,
                    const Group& group) {
  std::string text = layout.empty() ? "" : "; " + layout;
  const auto elements = static_cast<double>(group.elements);
  if (!quantiser.empty() && quantiser != "min-max") {
    text += fmt::format("; {}: {:.1f} of {:.1f} bits used", quantiser,
                        group.bits / elements, group.most_bits);
    if (group.coarser_by > 1.05) {
      text += fmt::format(", errors {:.2g} times min-max's", group.coarser_by);
    }
  }
  if (group.moved > 0) {
    text += fmt::format(", {:.2g} % moved, to {:.2g} steps at most",
                        100.0 * static_cast<double>(group.moved) / elements,
                        group.moved_by);
  }
  if (group.cut_off > 0) {
    text += fmt::format(
        "; {:.2g} % cut off for the sake of the others, by {:.3g} steps at "
        "most",
        100.0 * static_cast<double>(group.cut_off) / elements,
        group.cut_off_by);
  }
  return text;
}

std::string PartName(const WeightMatch& match) {
  if (match.status == Status::kNotCovered && match.tensors.empty()) {
    return "unknown";
  }
  return std::string(match.role.bias ? "bias of " : "") +
         std::string(NameOf(match.role.part));
}

double Share(int64_t part, int64_t all) {
  // Rounded down: 100 % is all.
  return all == 0 ? 0 : static_cast<double>(part * 10000 / all) / 100;
}

void AddScales(const WeightMatch& match, Group& group) {
  const ScaleFigures& scales = match.scales;
  if (match.quantiser == "GPTQ") {
    group.moved += scales.moved;
    group.moved_by = std::max(group.moved_by, scales.moved_by);
  }
  group.cut_off_by = std::max(group.cut_off_by, scales.cut_off_by);
  group.bits += scales.bits * static_cast<double>(match.elements);
  group.most_bits = scales.most_bits;
  group.coarser_by = std::max(group.coarser_by, CoarserBy(scales));
}

void Table(const WeightAudit& audit, std::string& out) {
  using Key = std::tuple<int, std::string, std::string, std::string,
                         std::string, Status>;
  std::map<Key, Group> groups;
  std::vector<Key> order;
  for (const WeightMatch& match : audit.matches) {
    const Key key = {match.role.layer >= 0 ? 1 : 0,
                     PartName(match),
                     match.type,
                     match.layout,
                     match.quantiser,
                     match.status};
    const auto [entry, is_new] = groups.try_emplace(key);
    if (is_new) order.push_back(key);
    ++entry->second.constants;
    entry->second.bytes += match.bytes;
    entry->second.elements += match.elements;
    entry->second.cut_off += match.cut_off;
    entry->second.worst = std::max(entry->second.worst, match.worst);
    AddScales(match, entry->second);
  }
  out += fmt::format("  {:<22} {:<24} {:>5} {:>12} {:>9}  {}\n", "weight",
                     "stored as", "count", "bytes", "worst", "");
  for (const Key& key : order) {
    const auto& [in_layer, part, type, layout, quantiser, status] = key;
    const Group& group = groups.at(key);
    const std::string worst = status == Status::kNotCovered
                                  ? "-"
                                  : fmt::format("{:.4f}", group.worst);
    out += fmt::format("  {:<22} {:<24} {:>5} {:>12} {:>9}  {}{}\n", part, type,
                       group.constants, group.bytes, worst, NameOf(status),
                       Remarks(layout, quantiser, group));
  }
  out +=
      "  (worst: largest |dequantised - original| in steps of rounding; "
      "0.5 is rounding itself)\n";
}

void Uncovered(const WeightAudit& audit, std::string& out) {
  size_t shown = 0;
  for (const WeightMatch& match : audit.matches) {
    if (match.status != Status::kNotCovered) continue;
    if (shown++ == 0) out += "\nNot covered:\n";
    if (shown > kMostListed) continue;
    out += fmt::format("  {} {}: {}\n", Quote(match.name),
                       fmt::join(match.shape, "x"), match.reason);
  }
  if (shown > kMostListed) {
    out += fmt::format("  and {} more\n", shown - kMostListed);
  }
  for (const std::string& reason : audit.not_understood) {
    out +=
        fmt::format("  signature {}: its weights are found by content alone\n",
                    ReplaceInvalidUtf8(reason));
  }
}

void MissingTensors(const WeightAudit& audit, std::string& out) {
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const MissingTensor& tensor : audit.missing) {
    by_reason[tensor.reason].push_back(tensor.name);
  }
  if (by_reason.empty()) return;
  out += "\nTensors of the checkpoint that are not in the file:\n";
  for (auto& [reason, names] : by_reason) {
    const size_t count = names.size();
    if (count > 3) names.resize(3);
    out += fmt::format("  {}{}: {}\n", fmt::join(names, ", "),
                       count > 3 ? fmt::format(" and {} more", count - 3) : "",
                       reason);
  }
}

void Findings(const std::vector<Finding>& findings, std::string& out) {
  for (const Finding& finding : findings) {
    out += fmt::format("\n{} [{}] {}\n", NameOf(finding.severity),
                       NameOf(finding.id), finding.sentence);
    std::string_view rest = finding.evidence;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      out += fmt::format("    {}\n", ReplaceInvalidUtf8(rest.substr(0, end)));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (!finding.cause.empty())
      out += fmt::format("  cause: {}\n", finding.cause);
    if (!finding.remedy.empty()) {
      out += fmt::format("  what to do: {}\n", finding.remedy);
    }
  }
}

std::string Verdict(const WeightReport& report) {
  const WeightAudit& audit = report.audit;
  const double share = Share(audit.verified_bytes, audit.weight_bytes);
  switch (OutcomeOf(report)) {
    case Outcome::kPass:
      return fmt::format(
          "PASS: all {} bytes of weights are the checkpoint's "
          "(worst {:.4f} steps)",
          audit.weight_bytes, audit.worst);
    case Outcome::kNotChecked:
      if (audit.verified_bytes + audit.calibrated_bytes == audit.weight_bytes) {
        return fmt::format(
            "NOT CHECKED: {:g} % of the weights' bytes are the checkpoint's; "
            "the rest was quantised from this checkpoint with activations in "
            "mind (GPTQ), as its scales show: whether each number moved as it "
            "should is shown by a verification, which runs the model",
            share);
      }
      return fmt::format(
          "NOT CHECKED: {:g} % of the weights' bytes are the checkpoint's, in "
          "their place; {:g} % are the checkpoint's, but what for is not "
          "known; the rest was not covered",
          share, Share(audit.by_content_bytes, audit.weight_bytes));
    default:
      return fmt::format(
          "FAIL: {} ({:g} % of the weights' bytes are the "
          "checkpoint's)",
          report.findings.front().sentence, share);
  }
}

OrderedJson ToJson(const WeightMatch& match) {
  OrderedJson json = {{"status", NameOf(match.status)},
                      {"part", PartName(match)},
                      {"layer", nullptr},
                      {"name", ReplaceInvalidUtf8(match.name)},
                      {"type", match.type},
                      {"shape", match.shape},
                      {"bytes", match.bytes},
                      {"layout", match.layout},
                      {"tensors", OrderedJson::array()},
                      {"signatures", OrderedJson::array()},
                      {"worst_steps", nullptr},
                      {"bad_elements", match.bad},
                      {"cut_off_elements", match.cut_off},
                      {"quantiser", match.quantiser},
                      {"scales", nullptr},
                      {"elements", match.elements},
                      {"difference", nullptr},
                      {"reason", match.reason}};
  if (match.role.layer >= 0) json["layer"] = match.role.layer;
  for (const auto& name : match.tensors) {
    json["tensors"].push_back(ReplaceInvalidUtf8(name));
  }
  for (const auto& name : match.signatures) {
    json["signatures"].push_back(ReplaceInvalidUtf8(name));
  }
  if (match.scales.scales > 0) {
    const ScaleFigures& s = match.scales;
    json["scales"] = {{"count", s.scales},
                      {"min_max", s.min_max},
                      {"bits_used", s.bits},
                      {"bits", s.most_bits},
                      {"error_to_min_max", CoarserBy(s)},
                      {"cut_off_by", s.cut_off_by},
                      {"moved_elements", s.moved},
                      {"moved_by", s.moved_by}};
  }
  // Infinity is no number of JSON's.
  if (match.worst < 1e300) json["worst_steps"] = match.worst;
  if (match.difference) {
    json["difference"] = {{"text", match.difference->text},
                          {"correlation", match.difference->correlation},
                          {"relative_size", match.difference->size},
                          {"rank", nullptr}};
    if (match.difference->low_rank) {
      json["difference"]["rank"] = match.difference->rank;
    }
  }
  return json;
}

}  // namespace

Outcome OutcomeOf(const WeightReport& report) {
  if (!report.findings.empty()) return report.findings.front().severity;
  const bool all = report.audit.weight_bytes > 0 &&
                   report.audit.verified_bytes == report.audit.weight_bytes;
  return all ? Outcome::kPass : Outcome::kNotChecked;
}

std::string WeightsText(const WeightReport& report) {
  const WeightAudit& audit = report.audit;
  std::string out = fmt::format("Weights of {}\nagainst    {}\n\n",
                                report.tflite_path, report.checkpoint_path);
  Table(audit, out);
  out += fmt::format(
      "  {} other constants (tables, masks, shapes, scalars), {} "
      "bytes\n",
      audit.other_constants, audit.other_bytes);
  Uncovered(audit, out);
  MissingTensors(audit, out);
  Findings(report.findings, out);
  if (!report.notes.empty()) out += "\nNotes:\n";
  for (const std::string& note : report.notes) {
    out += fmt::format("  {}\n", ReplaceInvalidUtf8(note));
  }
  out += fmt::format(
      "\nverified: {} of {} bytes ({:g} %); {:.1f} s, {} MB\n{}\n",
      audit.verified_bytes, audit.weight_bytes,
      Share(audit.verified_bytes, audit.weight_bytes), report.seconds,
      report.peak_memory_bytes / 1000000, Verdict(report));
  return out;
}

std::string WeightsJson(const WeightReport& report) {
  const WeightAudit& audit = report.audit;
  OrderedJson json = {
      {"schema_version", kWeightsSchemaVersion},
      {"tflite_path", ReplaceInvalidUtf8(report.tflite_path)},
      {"checkpoint_path", ReplaceInvalidUtf8(report.checkpoint_path)},
      {"outcome", NameOf(OutcomeOf(report))},
      {"reason", Verdict(report)},
      {"weight_bytes", audit.weight_bytes},
      {"verified_bytes", audit.verified_bytes},
      {"calibrated_bytes", audit.calibrated_bytes},
      {"by_content_bytes", audit.by_content_bytes},
      {"worst_steps", audit.worst},
      {"other_constants", audit.other_constants},
      {"other_bytes", audit.other_bytes},
      {"not_understood", OrderedJson::array()},
      {"findings", ToJson(report.findings)},
      {"notes", OrderedJson::array()},
      {"matches", OrderedJson::array()},
      {"missing", OrderedJson::array()},
      {"seconds", report.seconds},
      {"peak_memory_bytes", report.peak_memory_bytes}};
  for (const std::string& reason : audit.not_understood) {
    json["not_understood"].push_back(ReplaceInvalidUtf8(reason));
  }
  for (const std::string& note : report.notes) {
    json["notes"].push_back(ReplaceInvalidUtf8(note));
  }
  for (const WeightMatch& match : audit.matches) {
    json["matches"].push_back(ToJson(match));
  }
  for (const MissingTensor& tensor : audit.missing) {
    json["missing"].push_back({{"name", ReplaceInvalidUtf8(tensor.name)},
                               {"explained", tensor.explained},
                               {"reason", tensor.reason}});
  }
  return json.dump(2) + "\n";
}

}  // namespace verify_tflite
