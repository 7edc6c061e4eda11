#include "report/markdown.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/utf8.h"
#include "report/format.h"
#include "result/faithful.h"

namespace verify_tflite {
namespace {

constexpr size_t kMaxText = 160;      // bytes of a text
constexpr size_t kMaxEvidence = 600;  // bytes
constexpr size_t kMaxItems = 20;      // rows of a list
// Of the whole; a comment on GitHub takes 65,536 characters.
constexpr size_t kMaxSummaryBytes = 60'000;

// Sentences of this program's own making, which may quote others' text.
std::string Sentence(std::string_view text) {
  std::string out;
  for (const char c : EscapeMarkup(text)) {
    if (std::string_view("\\`*_[]|~$@").find(c) != std::string_view::npos) {
      out += fmt::format("&#{};", static_cast<int>(c));
    } else {
      out += c;
    }
  }
  return out;
}

// A code span, in which nothing is markup, a mention or a link: between more
// backticks than it holds in a row (GitHub Flavored Markdown, 6.3). In a table
// | ends the cell even there.
std::string Code(std::string_view text, bool in_table = false) {
  const std::string shown = ShowControls(text);
  std::string out;
  size_t longest = 0;
  size_t run = 0;
  for (const char c : shown) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
    if (c == '|' && in_table) out += '\\';
    out += c;
  }
  const std::string fence(longest + 1, '`');
  const bool pad = longest > 0 || shown.empty() || shown.front() == ' ';
  return fmt::format("{}{}{}{}{}", fence, pad ? " " : "", out, pad ? " " : "",
                     fence);
}

std::string Quoted(std::string_view text) {
  return Code(Quote(Shorten(text, kMaxText)), true);
}

std::string Status(Outcome outcome) {
  return fmt::format("{} {}", SignOf(outcome), WordOf(outcome));
}

std::string Title(Outcome outcome) {
  const char* sign = outcome == Outcome::kPass           ? "✅"
                     : outcome == Outcome::kInconclusive ? "❔"
                     : outcome == Outcome::kDegraded     ? "⚠️"
                                                         : "❌";
  return fmt::format("{} {}", sign, Headline(outcome));
}

void AppendMore(size_t all, std::string& out) {
  if (all <= kMaxItems) return;
  out += fmt::format("\n… and {} more (`--json` holds all)\n", all - kMaxItems);
}

void AppendFindings(const Verification& v, std::string& out) {
  if (v.findings.empty()) return;
  out += "\n#### Findings\n\n";
  const size_t shown = std::min(v.findings.size(), kMaxItems);
  for (size_t i = 0; i < shown; ++i) {
    const Finding& f = v.findings[i];
    out += fmt::format("- **{}** ({}): {}\n", Code(NameOf(f.id)),
                       WordOf(f.severity),
                       Sentence(Shorten(f.sentence, kMaxEvidence)));
    std::string_view rest = f.evidence;
    rest = rest.substr(0, kMaxEvidence);
    while (!rest.empty()) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      out += fmt::format("  - {}\n", Code(line));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    }
    if (!f.cause.empty()) {
      out += fmt::format("  - Likely cause: {}\n", Sentence(f.cause));
    }
    if (!f.remedy.empty()) {
      out += fmt::format("  - What to do: {}\n", Sentence(f.remedy));
    }
  }
  AppendMore(v.findings.size(), out);
}

void AppendNotes(const Verification& v, std::string& out) {
  if (v.notes.empty()) return;
  out += "\n#### Notes\n\n";
  const size_t shown = std::min(v.notes.size(), kMaxItems);
  for (size_t i = 0; i < shown; ++i) {
    out += fmt::format("- {}\n", Sentence(Shorten(v.notes[i], kMaxEvidence)));
  }
  AppendMore(v.notes.size(), out);
}

void AppendChecks(const Verification& v, std::string& out) {
  struct Row {
    std::string_view prefix;
    const Check* check;
  };
  std::vector<Row> rows;
  for (const CheckGroupTraits& group : kCheckGroups) {
    for (const Check& c : v.checks[group.group]) {
      rows.push_back({group.prefix, &c});
    }
  }
  if (rows.empty()) return;
  out += "\n| check | result | figures | |\n|---|---|---|---|\n";
  for (const auto& [prefix, c] : rows) {
    out += fmt::format("| {}{} | {} | {} | {} |\n", prefix, Code(c->name, true),
                       Status(c->outcome), FiguresOf(*c),
                       Sentence(Shorten(c->detail, kMaxText)));
  }
}

void Open(std::string_view summary, std::string& out) {
  out += fmt::format("\n<details><summary>{}</summary>\n\n", summary);
}

void Close(std::string& out) { out += "\n</details>\n"; }

void AppendStructure(const Verification& v, std::string& out) {
  if (!v.structure || v.structure->signatures.empty()) return;
  const OpCoverage coverage = CoverageOf(*v.structure);
  Open(fmt::format("Is it faithful? {} of {} operators verified",
                   coverage.verified, coverage.ops),
       out);
  out +=
      "| signature | result | operators | positions | worst error, products | "
      "the rest | |\n|---|---|--:|---|--:|--:|---|\n";
  const auto& signatures = v.structure->signatures;
  const std::vector<Check> checks = SignatureChecks(v);
  const size_t shown = std::min(checks.size(), kMaxItems);
  for (size_t i = 0; i < shown; ++i) {
    const SignatureStructure& s = signatures[i];
    out += fmt::format(
        "| {} | {} | {} | {} | {} | {} | {} |\n",
        Code(Shorten(s.signature, kMaxText), true), Status(checks[i].outcome),
        CoverageText(s), Ranges(s.positions), WorstText(s, true),
        WorstText(s, false), Sentence(Shorten(checks[i].detail, kMaxEvidence)));
  }
  AppendMore(checks.size(), out);
  Close(out);
}

void AppendCost(const Verification& v, std::string& out) {
  const auto split = SplitCost(v);
  if (!split) return;
  out += fmt::format(
      "\n**Cost**, mean KL divergence over the evaluation text: {} nats, of "
      "which the weights {} and {} {}\n",
      Figure(split->total), Figure(split->weights), NameOfRest(v.model),
      Figure(split->rest));
}

void AppendPrompts(const Verification& v, std::string& out) {
  if (v.prompts.empty()) return;
  const auto count = static_cast<int64_t>(v.prompts.size());
  Open(fmt::format("Prompts: {} of {} without a fault", count - NumFailed(v),
                   count),
       out);
  out += "| prompt | result | PyTorch | TFLite |\n|---|---|---|---|\n";
  const size_t shown = std::min(v.prompts.size(), kMaxItems);
  for (size_t i = 0; i < shown; ++i) {
    const PromptResult& r = v.prompts[i];
    out += fmt::format("| {} | {} | {} | {} |\n", Quoted(r.prompt.text),
                       Status(r.outcome), Quoted(r.reference_text),
                       Quoted(r.candidate_text));
  }
  AppendMore(v.prompts.size(), out);
  Close(out);
}

void AppendRow(const std::string& name, const Aggregate& a, std::string& out) {
  if (a.kld.count == 0) {
    out += fmt::format("| {} | {} | no finite logits | | | | |\n", name,
                       a.positions);
    return;
  }
  out += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", name,
                     a.positions, Figure(a.kld.mean), Figure(a.kld.p99),
                     Figure(a.kld.max), a.flips, a.ties);
}

void AppendEvaluation(const Verification& v, std::string& out) {
  if (v.all.positions == 0) return;
  Open(fmt::format("Evaluation: {} positions", v.all.positions), out);
  out +=
      "| | positions | KLD mean | p99 | max | flips | ties |\n"
      "|---|--:|--:|--:|--:|--:|--:|\n";
  const size_t passages = std::min(v.evaluation.passages.size(), kMaxItems);
  for (size_t i = 0; i < passages; ++i) {
    const Passage& p = v.evaluation.passages[i];
    AppendRow(Sentence(Shorten(p.name, kMaxText)), p.figures, out);
  }
  for (const Bucket& b : v.buckets) {
    AppendRow(fmt::format("positions {}–{}", b.begin, b.end - 1), b.figures,
              out);
  }
  AppendRow("**all**", v.all, out);
  if (v.weights_cost) {
    AppendRow("weights alone", v.weights_cost->figures, out);
  }
  Close(out);
}

void AppendReproduction(const Verification& v, std::string& out) {
  const Environment& e = v.environment;
  Open("How to reproduce", out);
  const auto add = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    out += fmt::format("- {}: {}\n", name, Code(Shorten(value, 2000)));
  };
  add("command", e.command);
  add("verify_tflite", v.tool_version);
  add("LiteRT", e.litert_version);
  add("torch", e.torch_version);
  add("reference", ReferenceOf(v));
  add("checkpoint", SavedBy(v));
  add("converter", ConverterOf(v));
  add("CPU", e.cpu);
  add("date", e.date);
  const size_t shown = std::min(e.hashes.size(), kMaxItems);
  for (size_t i = 0; i < shown; ++i) {
    out += fmt::format("- {}: SHA-256 {}\n", Code(e.hashes[i].first),
                       Code(e.hashes[i].second));
  }
  AppendMore(e.hashes.size(), out);
  Close(out);
}

}  // namespace

std::string MarkdownReport(const Verification& v) {
  std::string out =
      fmt::format("### {}: {}\n\n{}\n\n{} against {}, {}\n", Title(v.outcome),
                  Code(Shorten(v.tflite_path, kMaxText)),
                  Sentence(Shorten(v.reason, kMaxEvidence)),
                  Code(Shorten(v.tflite_path, kMaxText)),
                  Code(Shorten(v.checkpoint_path, kMaxText)),
                  Sentence(Shorten(v.model.recipe_detail, kMaxText)));
  for (const auto& append :
       {AppendFindings, AppendNotes, AppendChecks, AppendCost, AppendStructure,
        AppendReproduction, AppendEvaluation, AppendPrompts}) {
    std::string section;
    append(v, section);
    if (out.size() + section.size() > kMaxSummaryBytes) {
      out += "\nToo long for here: `--json` and `--html` hold more.\n";
    } else {
      out += section;
    }
  }
  return out;
}

}  // namespace verify_tflite
