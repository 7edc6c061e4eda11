#include "report/self_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/utf8.h"

namespace verify_tflite {
namespace {

using Json = nlohmann::ordered_json;

std::string_view Mark(Outcome outcome) {
  return outcome == Outcome::kNotChecked ? "-" : SignOf(outcome);
}

// A number, or null: JSON knows neither NaN nor infinity.
Json Number(const std::optional<double>& value) {
  if (!value || !std::isfinite(*value)) return nullptr;
  return *value;
}

Json ToJson(const Check& check) {
  return {{"name", ReplaceInvalidUtf8(check.name)},
          {"outcome", NameOf(check.outcome)},
          {"value", Number(check.value)},
          {"limit", Number(check.limit)},
          {"broken_limit", Number(check.broken_limit)},
          {"detail", ReplaceInvalidUtf8(check.detail)}};
}

Json ToJson(const Finding& finding) {
  return {{"id", finding.id},
          {"severity", NameOf(finding.severity)},
          {"sentence", finding.sentence},
          {"evidence", ReplaceInvalidUtf8(finding.evidence)},
          {"cause", ReplaceInvalidUtf8(finding.cause)},
          {"remedy", finding.remedy}};
}

void AppendFinding(const Finding& finding, std::string& out) {
  fmt::format_to(std::back_inserter(out), "\n  [{}] {}\n", finding.id,
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
  Json json = {{"tool_version", report.tool_version},
               {"tflite_path", ReplaceInvalidUtf8(report.tflite_path)},
               {"recipe", report.recipe},
               {"num_threads", report.num_threads},
               {"outcome", NameOf(OutcomeOf(report))},
               {"self_checks", Json::array()},
               {"findings", Json::array()},
               {"seconds", report.seconds}};
  for (const Check& check : report.checks) {
    json["self_checks"].push_back(ToJson(check));
  }
  for (const Finding& finding : report.findings) {
    json["findings"].push_back(ToJson(finding));
  }
  return json.dump(2) + "\n";
}

}  // namespace verify_tflite
