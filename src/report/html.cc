#include "report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "report/format.h"
#include "report/html_plots.h"
#include "report/html_style.h"
#include "report/html_table.h"
#include "result/faithful.h"

namespace verify_tflite {
namespace {

// What one page can hold of texts that others wrote.
constexpr size_t kMaxPrompts = 50;
constexpr size_t kMaxText = 4000;         // bytes of a text
constexpr size_t kMaxDifferingRows = 40;  // rows for a prompt
constexpr size_t kMaxRows = 100;
constexpr size_t kMaxFaults = 30;
constexpr size_t kMaxSignatures = 30;
constexpr size_t kMaxStages = 200;  // rows, of all signatures
constexpr size_t kMaxDetail = 400;  // bytes of a detail in a long table
constexpr size_t kMaxName = 120;    // bytes of a tensor's name

template <typename... Args>
void Add(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

std::string_view ClassOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass:
      return "pass";
    case Outcome::kInconclusive:
    case Outcome::kDegraded:
      return "warn";
    case Outcome::kBroken:
      return "bad";
    case Outcome::kNotChecked:
      return "none";
  }
  return "none";
}

std::string Pill(Outcome outcome) {
  return fmt::format("<span class=\"pill {}\">{} {}</span>", ClassOf(outcome),
                     SignOf(outcome), WordOf(outcome));
}

std::string Text(std::string_view text) {
  return EscapeMarkup(Shorten(text, kMaxText));
}

// Others' text, whose direction stays inside.
std::string Foreign(std::string_view text) {
  return "<bdi>" + Text(text) + "</bdi>";
}

// A name from the model file.
std::string Name(std::string_view text) {
  return Foreign(Shorten(text, kMaxName));
}

void AddMore(size_t all, size_t shown, std::string& out) {
  if (all <= shown) return;
  Add(out, "<p class=\"soft\">… and {} more; --json holds all.</p>\n",
      all - shown);
}

// --- tables ---

void AddCheckRows(const char* group, const std::vector<Check>& checks,
                  HtmlTable& table) {
  if (checks.empty()) return;
  table.Group(group);
  const size_t shown = std::min(checks.size(), kMaxRows);
  for (size_t i = 0; i < shown; ++i) {
    const Check& c = checks[i];
    std::string interval;
    if (c.interval) {
      interval = fmt::format("{} – {}", Figure(c.interval->low),
                             Figure(c.interval->high));
    }
    table.Row({Text(c.name), Pill(c.outcome), c.value ? Figure(*c.value) : "",
               interval, c.limit ? Figure(*c.limit) : "", Foreign(c.detail)});
  }
}

// The columns of a table of aggregates.
std::vector<std::string> AggregateColumns(const char* reference,
                                          const char* candidate) {
  return {"",
          "#positions",
          "#KLD mean",
          "#median",
          "#p99",
          "#max",
          "#flips",
          "#ties",
          fmt::format("#PPL {}", reference),
          fmt::format("#PPL {}", candidate)};
}

void AddAggregate(const std::string& name, const Aggregate& a, const char* css,
                  HtmlTable& table) {
  if (a.kld.count == 0) {
    table.ShortRow(css, {name, a.positions}, "no finite logits");
    return;
  }
  table.Row(css, {name, a.positions, Figure(a.kld.mean), Figure(a.kld.median),
                  Figure(a.kld.p99), Figure(a.kld.max), a.flips, a.ties,
                  Figure(a.reference_ppl), Figure(a.candidate_ppl)});
}

// --- verdict ---

// What compared nothing is no success.
std::string HeadlineWithSign(Outcome outcome) {
  return fmt::format("{} {}",
                     outcome == Outcome::kNotChecked ? "✗" : SignOf(outcome),
                     Headline(outcome));
}

void AddCard(const std::string& figure, const std::string& label,
             std::string& out) {
  Add(out, "<div class=\"card\"><b>{}</b><span>{}</span></div>\n", figure,
      label);
}

void AddCards(const Verification& v, std::string& out) {
  const Aggregate& a = v.all;
  if (a.kld.count == 0) return;
  out += "<div class=\"cards\">\n";
  AddCard(Figure(a.kld.mean),
          fmt::format("nats, mean KL divergence<br>limit {}",
                      Figure(v.limits.kld.pass)),
          out);
  AddCard(Figure(a.kld.p99), "nats, 99th percentile", out);
  const int64_t differing = a.flips + a.ties;
  AddCard(
      fmt::format("{:.1f} %", 100 *
                                  static_cast<double>(a.kld.count - differing) /
                                  static_cast<double>(a.kld.count)),
      fmt::format(
          "of {} greedy choices agree<br>{} {}, {} flips", a.kld.count, a.ties,
          IsNoisy(a.kld.mean, v.limits) ? "within its own noise" : "ties",
          a.flips),
      out);
  AddCard(Figure(a.max_abs),
          v.limits.tolerance
              ? fmt::format("largest |logit difference|<br>limit {}",
                            Figure(*v.limits.tolerance))
              : "largest |logit difference|",
          out);
  AddCard(
      fmt::format("{} → {}", Figure(a.reference_ppl), Figure(a.candidate_ppl)),
      "perplexity, PyTorch → TFLite", out);
  AddCard(fmt::format("{:.0f} s", v.timing.total),
          fmt::format("peak memory {}", DescribeMemory(v)), out);
  out += "</div>\n";
}

void AddVerdict(const Verification& v, std::string& out) {
  Add(out,
      "<header>\n<h1>verify_tflite {}: a converted model against its PyTorch "
      "checkpoint</h1>\n<div class=\"verdict {}\">\n<p class=\"word\">{}</p>\n"
      "<p class=\"why\">{}</p>\n<dl class=\"pair\">"
      "<dt>TFLite</dt><dd><code>{}</code><br>{}, {} layers</dd>"
      "<dt>PyTorch</dt><dd><code>{}</code><br>{}, {} layers, hidden {}, "
      "vocabulary {}</dd></dl>\n</div>\n",
      Text(v.tool_version), ClassOf(v.outcome), HeadlineWithSign(v.outcome),
      Foreign(v.reason), Foreign(v.tflite_path), Foreign(v.model.recipe_detail),
      v.model.num_layers, Foreign(v.checkpoint_path),
      Foreign(v.config.model_type), v.config.num_layers, v.config.hidden_size,
      v.config.vocab_size);
  AddCards(v, out);
  out += "</header>\n";
}

// --- findings ---

void AddFinding(const Finding& f, std::string& out) {
  const std::string_view css = ClassOf(f.severity);
  Add(out,
      "<article class=\"finding {}\">\n<div class=\"head\"><h3>{}</h3>{}</div>"
      "\n<p class=\"said\">{}</p>\n<pre>{}</pre>\n",
      css, Text(NameOf(f.id)), Pill(f.severity), Foreign(f.sentence),
      EscapeMarkup(Shorten(f.evidence, kMaxText), true));
  if (!f.cause.empty()) {
    Add(out, "<p><b>Likely cause.</b> {}</p>\n", Foreign(f.cause));
  }
  if (!f.remedy.empty()) {
    Add(out, "<p><b>What to do.</b> {}</p>\n", Foreign(f.remedy));
  }
  Add(out,
      "<p class=\"soft\">More: <code>verify_tflite explain {}</code></p>\n"
      "</article>\n",
      Text(NameOf(f.id)));
}

void AddFindings(const Verification& v, std::string& out) {
  if (v.findings.empty()) return;
  out += "<section>\n<h2>Findings</h2>\n";
  const size_t shown = std::min(v.findings.size(), kMaxRows);
  for (size_t i = 0; i < shown; ++i) AddFinding(v.findings[i], out);
  AddMore(v.findings.size(), shown, out);
  out += "</section>\n";
}

void AddNotes(const Verification& v, std::string& out) {
  if (v.notes.empty()) return;
  out += "<section>\n<h2>Notes</h2>\n<ul>\n";
  const size_t shown = std::min(v.notes.size(), kMaxRows);
  for (size_t i = 0; i < shown; ++i) {
    Add(out, "<li>{}</li>\n", Foreign(v.notes[i]));
  }
  out += "</ul>\n";
  AddMore(v.notes.size(), shown, out);
  out += "</section>\n";
}

void AddHypotheses(const Verification& v, std::string& out) {
  if (v.hypotheses.empty()) return;
  out +=
      "<section>\n<h2>What would explain it</h2>\n<p>The reference, run again "
      "with one thing changed: mean KL divergence from the TFLite model, in "
      "nats.</p>\n";
  const size_t shown = std::min(v.hypotheses.size(), kMaxRows);
  {
    HtmlTable table({"change", "#as it is", "#changed", "", "finding"}, out,
                    HtmlTable::First::kPlainHead);
    for (size_t i = 0; i < shown; ++i) {
      const Hypothesis& h = v.hypotheses[i];
      table.Row({Foreign(h.change), Figure(h.unchanged_kld), Figure(h.kld),
                 h.explains ? "<b>explains it</b>" : "does not",
                 Text(NameOf(h.finding))});
    }
  }
  AddMore(v.hypotheses.size(), shown, out);
  out += "</section>\n";
}

// --- is it faithful? ---

void AddFaults(const std::vector<StructureFault>& faults, std::string& out) {
  if (faults.empty()) return;
  out +=
      "<h3 class=\"sub\">What is not what the model says</h3>\n<p>In the order "
      "of computation: the first is where the fault lies.</p>\n";
  const size_t shown = std::min(faults.size(), kMaxFaults);
  {
    HtmlTable table({"stage", "#layer", "signature", "#position", "#error",
                     "#limit", "computed by"},
                    out);
    for (size_t i = 0; i < shown; ++i) {
      const StructureFault& f = faults[i];
      table.Row({Name(f.stage),
                 f.layer < 0 ? "–" : std::to_string(f.layer),
                 Name(f.signature),
                 f.position,
                 {Figure(f.error) + (f.steps ? " steps" : ""), "n over"},
                 Figure(f.limit),
                 fmt::format("{} <span class=\"soft\">{}</span>", Name(f.op),
                             Name(f.tensor))});
    }
  }
  AddMore(faults.size(), shown, out);
}

// One row a signature: how much of it is verified, and how well it agrees.
void AddCoverage(const Verification& v, std::string& out) {
  const auto& signatures = v.structure->signatures;
  const std::vector<Check> checks = SignatureChecks(v);
  if (checks.empty()) return;
  out += "<h3 class=\"sub\">Operators, signature by signature</h3>\n";
  const size_t shown = std::min(checks.size(), kMaxSignatures);
  {
    HtmlTable table({"signature", "result", "#verified", "positions",
                     "#worst error, products", "#the rest", ""},
                    out);
    for (size_t i = 0; i < shown; ++i) {
      const SignatureStructure& s = signatures[i];
      table.Row({Name(s.signature),
                 Pill(checks[i].outcome),
                 CoverageText(s),
                 {Ranges(s.positions), "whole"},
                 WorstText(s, true),
                 WorstText(s, false),
                 Foreign(Shorten(GapOf(s), kMaxDetail))});
    }
  }
  AddMore(checks.size(), shown, out);
}

void AddStageRow(const StageAgreement& a, HtmlTable& table) {
  const bool over = a.rows > 0 && !(a.worst <= a.limit);
  std::string place = fmt::format("position {}", a.position);
  if (a.layer >= 0) place = fmt::format("layer {}, {}", a.layer, place);
  const std::string worst = Figure(a.worst) + (a.steps ? " steps" : "");
  table.Row({Name(a.stage),
             a.linear ? "product with weights" : "",
             a.rows,
             {over ? "✗ " + worst : worst, over ? "n over" : "n"},
             Figure(a.limit),
             a.rows > 0 ? place : ""});
}

// Every kind of stage of every signature, as many as the page can hold.
void AddStages(const Structure& structure, std::string& out) {
  size_t all = 0;
  for (const SignatureStructure& s : structure.signatures) {
    all += s.stages.size();
  }
  if (all == 0) return;
  Add(out, "<details{}><summary>Stage by stage</summary>",
      structure.faults.empty() ? "" : " open");
  size_t shown = 0;
  {
    HtmlTable table(
        {"stage", "", "#rows compared", "#worst error", "#limit", "at"}, out);
    for (const SignatureStructure& s : structure.signatures) {
      if (s.stages.empty() || shown == kMaxStages) continue;
      table.Group(Name(s.signature));
      for (const StageAgreement& stage : s.stages) {
        if (shown == kMaxStages) break;
        AddStageRow(stage, table);
        ++shown;
      }
    }
  }
  AddMore(all, shown, out);
  out += "</details>\n";
}

std::string_view FaithfulSentence(const Verification& v) {
  if (IsFaithful(v)) {
    return "Yes: every byte of its weights is this checkpoint's, and every "
           "operator computes what the model says.";
  }
  for (const CheckGroup group :
       {CheckGroup::kWeights, CheckGroup::kStructure}) {
    for (const Check& check : v.checks[group]) {
      if (check.outcome >= Outcome::kDegraded) {
        return "No: something in the file is not this checkpoint's model.";
      }
    }
  }
  return "Not shown: nothing was found that is not this checkpoint's model, "
         "but "
         "not everything was compared.";
}

void AddFaithful(const Verification& v, std::string& out) {
  if (v.checks[CheckGroup::kWeights].empty() &&
      v.checks[CheckGroup::kStructure].empty())
    return;
  Add(out, "<section>\n<h2>Is it faithful?</h2>\n<p>{}</p>\n",
      FaithfulSentence(v));
  {
    HtmlTable table({"", "result", "#shown", ""}, out);
    for (const CheckGroup group :
         {CheckGroup::kWeights, CheckGroup::kStructure}) {
      const std::span<const Check> checks = v.checks[group];
      for (const Check& c : checks.first(std::min(checks.size(), kMaxRows))) {
        table.Row({Text(c.name), Pill(c.outcome),
                   c.value ? Percent(*c.value) : "–", Foreign(c.detail)});
      }
    }
  }
  if (v.structure) {
    AddFaults(v.structure->faults, out);
    AddCoverage(v, out);
    AddStages(*v.structure, out);
    out +=
        "<p class=\"soft note\">Each stage is recomputed by PyTorch from the "
        "file's own tensors with the file's own weights, quantised as the "
        "runtime does it: an error is |TFLite − PyTorch| / |PyTorch| of a row, "
        "and float rounding is all that may be left.</p>\n";
  }
  out += "</section>\n";
}

// --- what does it cost? ---

std::string PartKey(const char* css, const std::string& text) {
  return fmt::format(
      "<span class=\"key\"><svg class=\"swatch\" viewBox=\"0 0 22 10\" "
      "aria-hidden=\"true\"><rect class=\"{}\" width=\"22\" height=\"10\" "
      "rx=\"2\"/></svg>{}</span> ",
      css, text);
}

void AddBar(const CostSplit& split, const std::string& rest_name,
            std::string& out) {
  // Where the weights alone cost more than both together, they are all of it.
  const double whole = split.weights + split.rest;
  const double share = whole > 0 ? split.weights / whole : 0;
  const std::string weights =
      fmt::format("weights: {} nats", Figure(split.weights));
  const std::string rest =
      fmt::format("{}: {} nats", rest_name, Figure(split.rest));
  Add(out,
      "<svg class=\"share\" viewBox=\"0 0 1000 26\" "
      "preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}; {}\">"
      "<rect class=\"weights\" width=\"{:.1f}\" height=\"26\"/>"
      "<rect class=\"rest\" x=\"{:.1f}\" width=\"{:.1f}\" height=\"26\"/>"
      "</svg>\n<p class=\"legend parts\">{}{}</p>\n",
      weights, rest, 1000 * share, 1000 * share, 1000 * (1 - share),
      PartKey("weights", weights), PartKey("rest", rest));
}

void AddCost(const Verification& v, std::string& out) {
  if (!v.weights_cost) return;
  const auto split = SplitCost(v);
  out += "<section>\n<h2>What does it cost?</h2>\n";
  if (split) {
    Add(out,
        "<p>{} nats of mean KL divergence over the evaluation text. The limit "
        "for everything together is {}.</p>\n",
        Figure(split->total), Figure(v.limits.kld.pass));
    AddBar(*split, NameOfRest(v.model), out);
  }
  {
    HtmlTable table(AggregateColumns("before", "after"), out);
    AddAggregate("PyTorch → PyTorch with the file's weights",
                 v.weights_cost->figures, "", table);
    AddAggregate("PyTorch with the file's weights → TFLite",
                 v.weights_cost->rest, "", table);
    AddAggregate("PyTorch → TFLite", v.evaluation.figures, "total", table);
  }
  out +=
      "<p class=\"soft note\">Divergences do not add "
      "up exactly: the bar's second part is what the weights leave of the "
      "total.</p>\n</section>\n";
}

// --- checks ---

void AddChecks(const Verification& v, std::string& out) {
  out += "<section>\n<h2>Is it good enough?</h2>\n";
  {
    HtmlTable table(
        {"check", "result", "#value", "#95 % interval", "#limit", ""}, out);
    AddCheckRows("Against PyTorch", v.checks[CheckGroup::kDivergence], table);
    AddCheckRows("The TFLite model against itself", v.checks[CheckGroup::kSelf],
                 table);
    AddCheckRows("The bundle against the checkpoint",
                 v.checks[CheckGroup::kBundle], table);
  }
  out += "</section>\n";
}

// --- prompts ---

// Where the first word of `text` ends, white space before it included; in
// scripts without spaces, after a few characters.
size_t EndOfWord(std::string_view text) {
  constexpr std::string_view kSpace = " \n\t\r";
  constexpr size_t kMaxWord = 24;
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return text.size();
  size_t end = std::min(text.find_first_of(kSpace, begin), text.size());
  if (end - begin > kMaxWord) end = begin + kMaxWord;
  while (end < text.size() &&
         (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) {
    ++end;
  }
  return end;
}

// The text with the word at `part_at` marked, and faintly what follows; line
// breaks stay.
std::string MarkedMarkup(std::string_view text, size_t part_at) {
  const std::string cut = Shorten(text, kMaxText);
  if (part_at == text.size()) {
    return fmt::format("<bdi>{}<mark>(ends here)</mark></bdi>",
                       EscapeMarkup(cut, true));
  }
  if (part_at >= cut.size()) {
    return "<bdi>" + EscapeMarkup(cut, true) + "</bdi>";
  }
  const std::string_view differs = std::string_view(cut).substr(part_at);
  const size_t end = EndOfWord(differs);
  return fmt::format(
      "<bdi>{}<mark>{}</mark><span class=\"rest\">{}</span></bdi>",
      EscapeMarkup(std::string_view(cut).substr(0, part_at), true),
      EscapeMarkup(differs.substr(0, end), true),
      EscapeMarkup(differs.substr(end), true));
}

void AddDifferences(const PromptResult& r, std::string& out) {
  std::vector<size_t> differing;
  for (size_t i = 0; i < r.positions.size(); ++i) {
    const LogitDifference& l = r.positions[i].logits;
    if (l.reference_token != l.candidate_token) differing.push_back(i);
  }
  if (differing.empty()) return;
  Add(out,
      "<details><summary>Differing choices, both models given PyTorch's text "
      "before: {} of {}</summary>",
      differing.size(), r.positions.size());
  const size_t shown = std::min(differing.size(), kMaxDifferingRows);
  const auto choice = [](const std::string& text, int32_t token) {
    return fmt::format("<code>{}</code> <span class=\"soft\">{}</span>",
                       Foreign(Quote(text)), token);
  };
  {
    HtmlTable table(
        {"#token", "PyTorch", "TFLite", "#margin", "#noise", "#KLD", ""}, out,
        HtmlTable::First::kCell);
    for (size_t i = 0; i < shown; ++i) {
      const Position& p = r.positions[differing[i]];
      const LogitDifference& l = p.logits;
      table.Row({differing[i] + 1, choice(p.reference_text, l.reference_token),
                 choice(p.candidate_text, l.candidate_token), Figure(l.margin),
                 Figure(l.rms), Figure(l.kld),
                 !p.tie       ? "a difference"
                 : IsNoisy(r) ? "within this model's own noise"
                              : "a tie"});
    }
  }
  AddMore(differing.size(), shown, out);
  out += "</details>\n";
}

void AddPrompt(const PromptResult& r, size_t index, std::string& out) {
  const size_t part_at = PartAt(r);
  Add(out,
      "<article class=\"prompt\">\n<div class=\"head\"><h3>{}. "
      "<span class=\"text\">{}</span></h3>{}</div>\n<div class=\"sides\">"
      "<div class=\"side\"><h4>PyTorch</h4><div class=\"text\">{}</div></div>"
      "<div class=\"side\"><h4>TFLite</h4><div class=\"text\">{}</div></div>"
      "</div>\n",
      index + 1, Foreign(r.prompt.text), Pill(r.outcome),
      MarkedMarkup(r.reference_text, part_at),
      MarkedMarkup(r.candidate_text, part_at));
  if (part_at == std::string::npos) {
    out += "<p class=\"soft\">The two texts are equal.</p>\n";
  }
  out += "<ul class=\"chips\">\n";
  for (const Check& c : r.checks) {
    const std::string figures = FiguresOf(c);
    Add(out,
        "<li class=\"pill {}\" title=\"{}\">{} {}{}{}<span class=\"soft\"> "
        "{}</span></li>\n",
        ClassOf(c.outcome), Text(c.detail), SignOf(c.outcome), Text(c.name),
        figures.empty() ? "" : " ", figures, WordOf(c.outcome));
  }
  out += "</ul>\n";
  AddDifferences(r, out);
  if (r.prompt.rendered != r.prompt.text) {
    Add(out,
        "<details><summary>With the chat template</summary><pre>{}</pre>"
        "</details>\n",
        MarkedMarkup(r.prompt.rendered, std::string::npos));
  }
  out += "</article>\n";
}

void AddPrompts(const Verification& v, std::string& out) {
  if (v.prompts.empty()) return;
  const auto count = static_cast<int64_t>(v.prompts.size());
  Add(out,
      "<section>\n<h2>Prompts</h2>\n<p>{} of {} without a fault. Each model "
      "goes on from its own choices; where the texts part, it is "
      "marked.</p>\n",
      count - NumFailed(v), count);
  // The worst first, when not all are shown.
  std::vector<size_t> order;
  for (size_t i = 0; i < v.prompts.size(); ++i) order.push_back(i);
  if (order.size() > kMaxPrompts) {
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return v.prompts[a].outcome > v.prompts[b].outcome;
    });
    order.resize(kMaxPrompts);
  }
  for (const size_t i : order) AddPrompt(v.prompts[i], i, out);
  AddMore(v.prompts.size(), order.size(), out);
  out += "</section>\n";
}

// --- figures ---

void AddPlots(const Verification& v, std::string& out) {
  const auto add = [&](const char* title, const std::string& figure) {
    if (figure.empty()) return;
    Add(out, "<section>\n<h2>{}</h2>\n{}</section>\n", title, figure);
  };
  add("KL divergence over positions", KldPlot(v));
  add("KV caches, layer by layer", KvPlot(v));
  add("Margin against error", MarginPlot(v));
}

void AddEvaluation(const Verification& v, std::string& out) {
  if (v.all.positions == 0) return;
  Add(out,
      "<section>\n<h2>Evaluation</h2>\n<p>Both models are given the same text "
      "({}, {} positions through {}) and the prompts' texts, and predict each "
      "next token.</p>\n",
      Foreign(v.evaluation.source), v.evaluation.positions.size(),
      v.evaluation.through_prefill ? "prefill" : "decode");
  const size_t shown = std::min(v.evaluation.passages.size(), kMaxRows);
  {
    HtmlTable table(AggregateColumns("PyTorch", "TFLite"), out);
    if (shown > 0) table.Group("By kind of text");
    for (size_t i = 0; i < shown; ++i) {
      const Passage& p = v.evaluation.passages[i];
      AddAggregate(Foreign(p.name), p.figures, "", table);
    }
    if (!v.buckets.empty()) table.Group("By place in the sequence");
    for (const Bucket& b : v.buckets) {
      AddAggregate(fmt::format("{}–{}", b.begin, b.end - 1), b.figures, "",
                   table);
    }
    AddAggregate("all", v.all, "total", table);
  }
  AddMore(v.evaluation.passages.size(), shown, out);
  out += "</section>\n";
}

// --- limits ---

void AddLimits(const Verification& v, std::string& out) {
  Add(out,
      "<section>\n<h2>Recipe and limits</h2>\n<p>{}. Within its limit a figure "
      "is as it should be for {}; beyond the second number the model does not "
      "work.</p>\n",
      Foreign(v.model.recipe_detail), NameOf(v.model.recipe));
  {
    HtmlTable table({"", "#limit", "#broken beyond"}, out);
    const auto add = [&](const char* name, const Limit& limit) {
      table.Row({name, Figure(limit.pass), Figure(limit.broken)});
    };
    add("mean KL divergence, nats", v.limits.kld);
    add("99th percentile, nats", v.limits.kld_p99);
    add("share of flips, ties aside", v.limits.flips);
    if (v.limits.differing) {
      table.Row({"share of differing greedy choices, ties included",
                 Figure(*v.limits.differing), ""});
    }
    if (v.limits.tolerance) {
      table.Row(
          {"largest |logit difference|", Figure(*v.limits.tolerance), ""});
    }
    table.Row({"first tokens that must agree, ties aside",
               v.limits.match_tokens, ""});
  }
  std::vector<std::string> parts;
  for (const auto& [type, bytes] : v.model.weight_bytes) {
    parts.push_back(fmt::format("{} {:.1f} MB", Text(type),
                                static_cast<double>(bytes) / 1e6));
  }
  std::vector<std::string> lengths;
  for (const PrefillInfo& p : v.model.prefills) {
    lengths.push_back(std::to_string(p.length));
  }
  Add(out,
      "<dl class=\"pair\"><dt>Constants</dt><dd>{}</dd><dt>Prefill</dt>"
      "<dd>{}</dd><dt>KV cache</dt><dd>{} positions, {}, {}</dd>"
      "<dt>Template</dt><dd>{}</dd>",
      fmt::join(parts, ", "), fmt::join(lengths, ", "), v.model.kv_length,
      Text(v.model.kv_type), Megabytes(v.model.kv_bytes),
      Foreign(v.chat_template));
  for (const std::string& note : v.model.notes) {
    Add(out, "<dt>Note</dt><dd>{}</dd>", Foreign(note));
  }
  out += "</dl>\n</section>\n";
}

// --- how to reproduce ---

void AddReproduction(const Verification& v, std::string& out) {
  const Environment& e = v.environment;
  const Timing& t = v.timing;
  out += "<section>\n<h2>How to reproduce</h2>\n<dl class=\"pair\">";
  const auto add = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    Add(out, "<dt>{}</dt><dd>{}</dd>", name, value);
  };
  if (!e.command.empty()) {
    add("Command", "<code>" + Foreign(e.command) + "</code>");
  }
  add("Date", Foreign(e.date));
  add("verify_tflite", Foreign(v.tool_version));
  add("LiteRT", Foreign(e.litert_version));
  add("torch", Foreign(e.torch_version));
  add("Reference", Foreign(ReferenceOf(v)));
  add("Checkpoint", Foreign(SavedBy(v)));
  add("Converter", Foreign(ConverterOf(v)));
  add("CPU", Foreign(e.cpu));
  add("Threads", std::to_string(v.settings.num_threads));
  add("Time",
      fmt::format("{:.1f} s: open {:.1f}, compile {:.1f}, prefill {:.1f}, "
                  "decode {:.1f}, PyTorch {:.1f}, self checks {:.1f}, "
                  "locating {:.1f}, structure {:.1f}, cost of weights {:.1f}",
                  t.total, t.open, t.compile, t.prefill, t.decode, t.reference,
                  t.self_check, t.locate, t.structure, t.weights_cost));
  out += "</dl>\n";
  if (!e.hashes.empty()) {
    const size_t shown = std::min(e.hashes.size(), kMaxRows);
    {
      HtmlTable table({"file", "SHA-256"}, out, HtmlTable::First::kHead,
                      " style=\"margin-top:12px\"");
      for (size_t i = 0; i < shown; ++i) {
        table.Row({Foreign(e.hashes[i].first),
                   {fmt::format("<code>{}</code>", Text(e.hashes[i].second)),
                    "hash"}});
      }
    }
    AddMore(e.hashes.size(), shown, out);
  }
  out += "</section>\n";
}

}  // namespace

std::string HtmlReport(const Verification& v) {
  // Should something hostile get through the escaping, it can load and run
  // nothing.
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src "
      "'none'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<title>{}: {}</title>\n<style>{}</style>\n</head>\n"
      "<body>\n<main>\n",
      HeadlineWithSign(v.outcome), Text(v.tflite_path), kHtmlStyle);
  AddVerdict(v, out);
  AddFindings(v, out);
  AddNotes(v, out);
  AddHypotheses(v, out);
  AddFaithful(v, out);
  AddCost(v, out);
  AddChecks(v, out);
  AddPrompts(v, out);
  AddPlots(v, out);
  AddEvaluation(v, out);
  AddLimits(v, out);
  AddReproduction(v, out);
  return out + "</main>\n</body>\n</html>\n";
}

}  // namespace verify_tflite
