#include "report/junit.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "report/format.h"
#include "result/faithful.h"

namespace verify_tflite {
namespace {

constexpr size_t kMaxName = 120;

struct Case {
  std::string name;
  Outcome outcome = Outcome::kNotChecked;
  std::string message;  // one line
  std::string body;     // may have lines
};

struct Suite {
  std::string name;
  std::vector<Case> cases;
  // Inconclusive cases are skipped, not failures.
  bool lenient = false;
};

bool IsSkipped(const Suite& suite, const Case& c) {
  return c.outcome == Outcome::kNotChecked ||
         (suite.lenient && c.outcome == Outcome::kInconclusive);
}

bool IsFailure(const Suite& suite, const Case& c) {
  return !IsSkipped(suite, c) && c.outcome != Outcome::kPass;
}

template <typename Predicate>
int Count(const Suite& suite, const Predicate& predicate) {
  int count = 0;
  for (const Case& c : suite.cases) count += predicate(suite, c) ? 1 : 0;
  return count;
}

Suite OfChecks(std::string name, const std::vector<Check>& checks) {
  Suite suite{std::move(name), {}};
  for (const Check& check : checks) {
    const std::string figures = FiguresOf(check);
    suite.cases.push_back(
        {check.name, check.outcome,
         figures + (figures.empty() || check.detail.empty() ? "" : "; ") +
             check.detail,
         ""});
  }
  return suite;
}

Suite OfGroup(const CheckGroupTraits& group, const Verification& v) {
  std::vector<Check> checks = v.checks[group.group];
  if (group.group == CheckGroup::kStructure) {
    // Each signature by itself, too.
    for (Check& check : SignatureChecks(v)) checks.push_back(std::move(check));
  }
  return OfChecks(std::string(group.title), checks);
}

Suite OfPrompt(const PromptResult& result, size_t index) {
  Suite suite = OfChecks(fmt::format("prompt {}: {}", index + 1,
                                     Shorten(result.prompt.text, kMaxName)),
                         result.checks);
  suite.lenient = true;
  for (Case& c : suite.cases) {
    if (!IsFailure(suite, c)) continue;
    c.body = fmt::format("PyTorch: {}\nTFLite:  {}\n", result.reference_text,
                         result.candidate_text);
  }
  return suite;
}

Suite OfFindings(const std::vector<Finding>& findings) {
  Suite suite{"findings", {}};
  for (const Finding& finding : findings) {
    std::string body = finding.evidence + "\n";
    if (!finding.cause.empty()) body += "Likely cause: " + finding.cause + "\n";
    if (!finding.remedy.empty()) body += "What to do: " + finding.remedy + "\n";
    suite.cases.push_back({std::string(NameOf(finding.id)), finding.severity,
                           finding.sentence, std::move(body)});
  }
  if (findings.empty()) {
    suite.cases.push_back({"none", Outcome::kPass, "", ""});
  }
  return suite;
}

std::vector<Suite> SuitesOf(const Verification& v) {
  // A run that compared nothing is no success.
  const Outcome verdict =
      v.outcome == Outcome::kNotChecked ? Outcome::kBroken : v.outcome;
  std::vector<Suite> suites = {
      {"verdict", {{"verdict", verdict, v.reason, ""}}},
      OfFindings(v.findings),
  };
  for (const CheckGroupTraits& group : kCheckGroups) {
    suites.push_back(OfGroup(group, v));
  }
  for (size_t i = 0; i < v.prompts.size(); ++i) {
    suites.push_back(OfPrompt(v.prompts[i], i));
  }
  std::erase_if(suites, [](const Suite& s) { return s.cases.empty(); });
  return suites;
}

void AppendCase(const Suite& suite, const Case& c, std::string& out) {
  out += fmt::format("    <testcase classname=\"verify_tflite.{}\" name=\"{}\"",
                     EscapeMarkup(suite.name), EscapeMarkup(c.name));
  const std::string message = EscapeMarkup(c.message);
  if (IsFailure(suite, c)) {
    out += fmt::format(
        ">\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n"
        "    </testcase>\n",
        NameOf(c.outcome), message, EscapeMarkup(c.body, true));
  } else if (IsSkipped(suite, c)) {
    out +=
        fmt::format(">\n      <skipped message=\"{}: {}\"/>\n    </testcase>\n",
                    WordOf(c.outcome), message);
  } else if (!message.empty()) {
    out += fmt::format(
        ">\n      <system-out>{}</system-out>\n    </testcase>\n", message);
  } else {
    out += "/>\n";
  }
}

void AppendProperties(const Verification& v, std::string& out) {
  out += "    <properties>\n";
  const auto add = [&](const char* name, const std::string& value) {
    out += fmt::format("      <property name=\"{}\" value=\"{}\"/>\n", name,
                       EscapeMarkup(value));
  };
  add("tool_version", v.tool_version);
  add("tflite_path", v.tflite_path);
  add("checkpoint_path", v.checkpoint_path);
  add("recipe", v.model.recipe_detail);
  add("command", v.environment.command);
  add("cpu", v.environment.cpu);
  for (const std::string& note : v.notes) add("note", note);
  out += "    </properties>\n";
}

}  // namespace

std::string JunitReport(const Verification& v) {
  const std::vector<Suite> suites = SuitesOf(v);
  size_t tests = 0;
  int failures = 0;
  int skipped = 0;
  for (const Suite& suite : suites) {
    tests += suite.cases.size();
    failures += Count(suite, IsFailure);
    skipped += Count(suite, IsSkipped);
  }
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  out += fmt::format(
      "<testsuites name=\"verify_tflite\" tests=\"{}\" failures=\"{}\" "
      "errors=\"0\" skipped=\"{}\" time=\"{:.3f}\">\n",
      tests, failures, skipped, v.timing.total);
  // The schema of JUnit's XML has no place for a time zone.
  std::string date = v.environment.date;
  if (date.ends_with('Z')) date.pop_back();
  for (const Suite& suite : suites) {
    out += fmt::format(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" "
        "skipped=\"{}\"",
        EscapeMarkup(suite.name), suite.cases.size(), Count(suite, IsFailure),
        Count(suite, IsSkipped));
    if (!date.empty()) {
      out += fmt::format(" timestamp=\"{}\"", EscapeMarkup(date));
    }
    out += ">\n";
    if (&suite == &suites.front()) AppendProperties(v, out);
    for (const Case& c : suite.cases) AppendCase(suite, c, out);
    out += "  </testsuite>\n";
  }
  return out + "</testsuites>\n";
}

}  // namespace verify_tflite
