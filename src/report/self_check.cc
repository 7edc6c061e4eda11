#include "report/self_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "base/utf8.h"
#include "report/json_value.h"

namespace verify_tflite {
namespace {

std::string_view Mark(Outcome outcome) {
  return outcome == Outcome::kNotChecked ? "-" : SignOf(outcome);
}

// Unlike a verification's, it has `broken_limit` where there is none, too.
OrderedJson CheckToJson(const Check& check) {
  return {{"name", ToJson(check.name)},
          {"outcome", ToJson(check.outcome)},
          {"value", ToJson(check.value)},
          {"limit", ToJson(check.limit)},
          {"broken_limit", ToJson(check.broken_limit)},
          {"detail", ToJson(check.detail)}};
}

void AppendFinding(const Finding& finding, std::string& out) {
  fmt::format_to(std::back_inserter(out), "\n  [{}] {}\n", NameOf(finding.id),
                 finding.sentence);
  if (!finding.cause.empty()) {
    fmt::format_to(std::back_inserter(out), "    Likely cause: {}\n",
                   ReplaceInvalidUtf8(finding.cause));
  }
  if (!finding.remedy.empty()) {
    fmt::format_to(std::back_inserter(out), "    What to do: {}\n",
                   finding.remedy);
  }
}

std::string Verdict(const SelfCheckReport& report) {
  const auto made = std::count_if(
      report.checks.begin(), report.checks.end(),
      [](const Check& check) { return check.outcome != Outcome::kNotChecked; });
  switch (OutcomeOf(report)) {
    case Outcome::kPass:
      return fmt::format("✓ CONSISTENT: {} of {} checks made, all passed", made,
                         report.checks.size());
    case Outcome::kInconclusive:
      return "? INCONCLUSIVE: it takes the checkpoint to tell what is wrong";
    case Outcome::kDegraded:
      return "✗ DEGRADED: the model does not agree with itself as it should";
    case Outcome::kBroken:
      return "✗ BROKEN: the model does not agree with itself";
    case Outcome::kNotChecked:
      break;
  }
  return "- NOT CHECKED";
}

}  // namespace

Outcome OutcomeOf(const SelfCheckReport& report) {
  Outcome worst = Outcome::kNotChecked;
  for (const Check& check : report.checks) {
    worst = std::max(worst, check.outcome);
  }
  return worst;
}

std::string SelfCheckText(const SelfCheckReport& report) {
  std::string out;
  const auto append = std::back_inserter(out);
  fmt::format_to(append, "Self-check of {} ({})\n\n",
                 ReplaceInvalidUtf8(report.tflite_path), report.recipe);
  for (const Check& check : report.checks) {
    fmt::format_to(append, "  {} {:<12} {:<12} {}\n", Mark(check.outcome),
                   ReplaceInvalidUtf8(check.name),
                   check.outcome == Outcome::kNotChecked
                       ? "not checked"
                       : NameOf(check.outcome),
                   ReplaceInvalidUtf8(check.detail));
  }
  for (const Finding& finding : report.findings) AppendFinding(finding, out);
  fmt::format_to(append, "\n{} ({:.1f} s)\n", Verdict(report), report.seconds);
  return out;
}

std::string SelfCheckJson(const SelfCheckReport& report) {
  OrderedJson json = {{"tool_version", report.tool_version},
                      {"tflite_path", ReplaceInvalidUtf8(report.tflite_path)},
                      {"recipe", report.recipe},
                      {"num_threads", report.num_threads},
                      {"outcome", NameOf(OutcomeOf(report))},
                      {"self_checks", OrderedJson::array()},
                      {"findings", ToJson(report.findings)},
                      {"seconds", report.seconds}};
  for (const Check& check : report.checks) {
    json["self_checks"].push_back(CheckToJson(check));
  }
  return json.dump(2) + "\n";
}

}  // namespace verify_tflite
