#include "report/console.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "report/format.h"
#include "result/faithful.h"
#include "result/judge.h"

namespace verify_tflite {
namespace {

// Differing positions shown per prompt; --json holds all.
constexpr size_t kMaxDifferences = 5;

constexpr std::string_view kMarker = "[≠]";

// "✓", "✗ broken", "not checked".
std::string Mark(Outcome outcome) {
  if (outcome == Outcome::kNotChecked) return std::string(WordOf(outcome));
  if (outcome == Outcome::kPass) return std::string(SignOf(outcome));
  return fmt::format("{} {}", SignOf(outcome), WordOf(outcome));
}

std::string UpperCase(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  return upper;
}

// "PASSED", "FAILED (broken)".
std::string ResultOf(Outcome outcome) {
  if (outcome < Outcome::kDegraded) return UpperCase(WordOf(outcome));
  return fmt::format("FAILED ({})", WordOf(outcome));
}

// `text` quoted on one line, with the marker where the texts part.
std::string Marked(std::string_view text, size_t part_at) {
  if (part_at == std::string_view::npos) return Quote(text);
  std::string before = Quote(text.substr(0, part_at));
  const std::string after = Quote(text.substr(part_at));
  before.pop_back();
  return before + std::string(kMarker) + after.substr(1);
}

// What the bundle holds besides the model, in one line; why where something
// was not checked.
void AppendBundleChecks(const Verification& v, std::string& out) {
  const std::vector<Check>& checks = v.checks[CheckGroup::kBundle];
  if (checks.empty()) return;
  std::vector<std::string> parts;
  for (const Check& check : checks) {
    std::string name = check.name;
    std::replace(name.begin(), name.end(), '_', ' ');
    parts.push_back(fmt::format("{} {}", name, Mark(check.outcome)));
  }
  Line(out, "  Bundle      {}", fmt::join(parts, ", "));
  for (const Check& check : checks) {
    if (check.outcome == Outcome::kBroken || check.detail.empty()) continue;
    Line(out, "              {}", check.detail);
  }
}

void AppendLines(std::string_view text, std::string& out) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    Line(out, "    {}", line);
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
}

void AppendFindings(const Verification& v, std::string& out) {
  if (v.findings.empty()) return;
  Line(out, "");
  Line(out, "Findings");
  for (const Finding& finding : v.findings) {
    Line(out, "  {} ({}): {}", NameOf(finding.id), NameOf(finding.severity),
         finding.sentence);
    AppendLines(finding.evidence, out);
    if (!finding.cause.empty()) {
      AppendLines("Likely cause: " + finding.cause, out);
    }
    if (!finding.remedy.empty()) {
      AppendLines("What to do: " + finding.remedy, out);
    }
  }
}

void AppendNotes(const Verification& v, std::string& out) {
  if (v.notes.empty()) return;
  Line(out, "");
  Line(out, "Notes");
  for (const std::string& note : v.notes) Line(out, "  {}", ShowControls(note));
}

void AppendHeader(const Verification& v, std::string& out) {
  std::vector<std::string> lengths;
  for (const PrefillInfo& prefill : v.model.prefills) {
    lengths.push_back(std::to_string(prefill.length));
  }
  int64_t weights = 0;
  for (const auto& [type, bytes] : v.model.weight_bytes) weights += bytes;
  Line(out, "verify_tflite {}", v.tool_version);
  Line(out, "  TFLite      {}", v.tflite_path);
  Line(out,
       "              {}, {} of weights, {} layers, prefill {}, KV cache {}",
       v.model.recipe_detail, Megabytes(weights), v.model.num_layers,
       fmt::join(lengths, "/"), v.model.kv_length);
  for (const std::string& note : v.model.notes) {
    Line(out, "              note: {}", note);
  }
  Line(out, "  PyTorch     {}", v.checkpoint_path);
  Line(out,
       "              {}, {} layers, hidden {}, {} heads, {} KV heads, "
       "vocabulary {}",
       v.config.model_type, v.config.num_layers, v.config.hidden_size,
       v.config.num_heads, v.config.num_kv_heads, v.config.vocab_size);
  Line(out, "  Template    {}", v.chat_template);
  AppendBundleChecks(v, out);
  std::string rule = fmt::format(
      "mean KL divergence <= {:g} nats (99th percentile <= {:g}), flips <= "
      "{:g} %",
      v.limits.kld.pass, v.limits.kld_p99.pass, 100 * v.limits.flips.pass);
  if (v.limits.differing) {
    rule += fmt::format(", {:g} % with ties", 100 * *v.limits.differing);
  }
  if (v.limits.tolerance) {
    rule += fmt::format(", |logit difference| <= {:g}", *v.limits.tolerance);
  }
  Line(out, "  Limits      {} ({})", rule, NameOf(JudgedRecipe(v.model)));
}

void AppendDifference(const Position& p, size_t index, bool noisy,
                      std::string& out) {
  const LogitDifference& l = p.logits;
  Line(
      out,
      "    token {}: PyTorch {} ({}), TFLite {} ({}); PyTorch's margin {:.3g}, "
      "noise {:.3g} RMS: {}",
      index + 1, Quote(p.reference_text), l.reference_token,
      Quote(p.candidate_text), l.candidate_token, l.margin, l.rms,
      !p.tie  ? "a difference"
      : noisy ? "within this model's own noise"
              : "a tie");
}

void AppendDifferences(const PromptResult& result, std::string& out) {
  std::vector<size_t> differing;
  for (size_t i = 0; i < result.positions.size(); ++i) {
    const LogitDifference& l = result.positions[i].logits;
    if (l.reference_token != l.candidate_token) differing.push_back(i);
  }
  if (differing.empty()) return;
  Line(out,
       "  Differing tokens, both models given PyTorch's text before: {} of {}",
       differing.size(), result.positions.size());
  const size_t shown = std::min(differing.size(), kMaxDifferences);
  for (size_t i = 0; i < shown; ++i) {
    AppendDifference(result.positions[differing[i]], differing[i],
                     IsNoisy(result), out);
  }
  if (shown < differing.size()) {
    Line(out, "    … and {} more (--json holds all)", differing.size() - shown);
  }
}

void AppendTokenCheck(const Check& check, const PromptResult& result,
                      std::string& out) {
  const auto count = static_cast<size_t>(check.limit.value_or(0));
  size_t ties = 0;
  for (size_t i = 0; i < std::min(count, result.positions.size()); ++i) {
    ties += result.positions[i].tie ? 1 : 0;
  }
  std::string verdict(Mark(check.outcome));
  if (ties > 0 && IsNoisy(result)) {
    // What passes by ties as wide as a broken model's noise is no merit.
    if (check.outcome == Outcome::kPass) verdict = "–";
    verdict +=
        fmt::format(" ({} of them only within this model's own noise)", ties);
  } else if (ties > 0) {
    verdict += fmt::format(" ({} tie{})", ties, ties == 1 ? "" : "s");
  }
  Line(out, "  First {} tokens match: {:.0f}/{} {}", count,
       check.value.value_or(0), count, verdict);
}

void AppendFigures(const PromptResult& result, std::string& out) {
  double largest_kld = 0;
  double largest = 0;
  double mean = 0;
  double rms = 0;
  for (const Position& p : result.positions) {
    largest_kld = std::max(largest_kld, p.logits.kld);
    largest = std::max(largest, p.logits.max_abs);
    mean += p.logits.mean_abs;
    rms += p.logits.rms;
  }
  const auto count = static_cast<double>(result.positions.size());
  if (const Check* kld = FindCheck(result.checks, "kld")) {
    Line(out, "  KL divergence: mean {:.3g}, max {:.3g} nats (limit {:g}) {}",
         kld->value.value_or(0), largest_kld, kld->limit.value_or(0),
         Mark(kld->outcome));
  }
  if (const Check* logits = FindCheck(result.checks, "logits")) {
    const std::string verdict =
        logits->limit ? fmt::format(" (limit {:g}) {}", *logits->limit,
                                    Mark(logits->outcome))
                      : "";
    Line(out, "  Logit difference: max {:.3g}{}, mean {:.3g}, RMS {:.3g}",
         largest, verdict, mean / count, rms / count);
  }
  const Check* prefill = FindCheck(result.checks, "prefill_logits");
  if (prefill != nullptr && prefill->outcome != Outcome::kNotChecked) {
    Line(out,
         "  Prefill logits against decode's: KL divergence {:.3g} nats, "
         "max difference {:.3g} {}",
         result.prefill_logits->kld, result.prefill_logits->max_abs,
         Mark(prefill->outcome));
  }
}

void AppendPrompt(const PromptResult& result, size_t index, size_t count,
                  std::string& out) {
  Line(out, "");
  Line(out, "Prompt {} of {}: {}", index + 1, count, Quote(result.prompt.text));
  const size_t part_at = PartAt(result);
  Line(out, "  PyTorch: {}", Marked(result.reference_text, part_at));
  Line(out, "  TFLite:  {}", Marked(result.candidate_text, part_at));
  AppendDifferences(result, out);
  if (const Check* finite = FindCheck(result.checks, "finite_logits")) {
    Line(out, "  {} {}", finite->detail, Mark(finite->outcome));
  }
  if (const Check* tokens = FindCheck(result.checks, "tokens")) {
    AppendTokenCheck(*tokens, result, out);
  }
  AppendFigures(result, out);
  Line(out, "  {}", ResultOf(result.outcome));
}

// One line of figures, the same for a passage, a range of positions and all.
void AppendAggregate(std::string_view name, const Aggregate& a,
                     std::string& out) {
  if (a.kld.count == 0) {
    Line(out, "  {:<14} {:>5}  no finite logits", name, a.positions);
    return;
  }
  Line(out,
       "  {:<14} {:>5}  {:>9.3g} {:>9.3g} {:>9.3g} {:>9.3g}  {:>5} {:>5}  "
       "{:>8.4g} {:>8.4g}",
       name, a.positions, a.kld.mean, a.kld.median, a.kld.p99, a.kld.max,
       a.flips, a.ties, a.reference_ppl, a.candidate_ppl);
}

void AppendEvaluation(const Verification& v, std::string& out) {
  if (v.evaluation.positions.empty()) return;
  Line(out, "");
  Line(out, "Evaluation text ({}), {} positions through {}, and the prompts",
       v.evaluation.source, v.evaluation.positions.size(),
       v.evaluation.through_prefill ? "prefill" : "decode");
  Line(out, "  {:<14} {:>5}  {:>9} {:>9} {:>9} {:>9}  {:>5} {:>5}  {:>8} {:>8}",
       "", "", "KLD mean", "median", "p99", "max", "flips", "ties", "PPL ref",
       "PPL TFL");
  for (const Passage& passage : v.evaluation.passages) {
    AppendAggregate(passage.name, passage.figures, out);
  }
  for (const Bucket& bucket : v.buckets) {
    AppendAggregate(fmt::format("at {}–{}", bucket.begin, bucket.end - 1),
                    bucket.figures, out);
  }
  AppendAggregate("all", v.all, out);
  if (v.weights_cost) {
    AppendAggregate("weights alone", v.weights_cost->figures, out);
  }
}

void AppendChecks(const std::vector<Check>& checks, std::string& out) {
  for (const Check& check : checks) {
    std::string figure;
    if (check.value) figure = fmt::format("{:.3g}", *check.value);
    if (check.interval) {
      figure += fmt::format(" [{:.3g}, {:.3g}]", check.interval->low,
                            check.interval->high);
    }
    if (check.limit) figure += fmt::format(", limit {:g}", *check.limit);
    Line(out, "  {} {}: {}{}{}", Mark(check.outcome), ShowControls(check.name),
         figure, figure.empty() ? "" : "; ", ShowControls(check.detail));
  }
}

void AppendChecks(std::string_view title, const std::vector<Check>& checks,
                  std::string& out) {
  if (checks.empty()) return;
  Line(out, "");
  Line(out, "{}", title);
  AppendChecks(checks, out);
}

void AppendFaithful(const Verification& v, std::string& out) {
  const std::vector<Check>& weights = v.checks[CheckGroup::kWeights];
  const std::vector<Check>& structure = v.checks[CheckGroup::kStructure];
  if (weights.empty() && structure.empty()) return;
  Line(out, "\nIs it faithful?");
  AppendChecks(weights, out);
  AppendChecks(structure, out);
  if (!v.structure) return;
  // The check names the first.
  const auto& faults = v.structure->faults;
  const size_t shown = std::min(faults.size(), kMaxDifferences);
  for (size_t i = 1; i < shown; ++i) {
    Line(out, "      {}", ShowControls(Describe(faults[i])));
  }
  if (shown < faults.size()) {
    Line(out, "      … and {} more (--json holds all)", faults.size() - shown);
  }
}

void AppendCost(const Verification& v, std::string& out) {
  AppendChecks("Is it good enough?", v.checks[CheckGroup::kDivergence], out);
  if (const auto split = SplitCost(v)) {
    Line(out,
         "  costs {:.3g} nats over the evaluation text: weights {:.3g}, {} "
         "{:.3g}",
         split->total, split->weights, NameOfRest(v.model), split->rest);
  }
}

void AppendSummary(const Verification& v, std::string& out) {
  const Timing& t = v.timing;
  Line(out, "");
  Line(out, "Summary");
  Line(out, "  {} of {} prompts passed",
       static_cast<int64_t>(v.prompts.size()) - NumFailed(v), v.prompts.size());
  std::string more;
  if (t.structure > 0) more += fmt::format(", structure {:.1f}", t.structure);
  if (t.weights_cost > 0) {
    more += fmt::format(", cost of weights {:.1f}", t.weights_cost);
  }
  Line(out,
       "  {:.1f} s: open {:.1f}, compile {:.1f}, prefill {:.1f}, decode {:.1f} "
       "({:.0f} tokens/s), PyTorch {:.1f} ({} passes){}",
       t.total, t.open, t.compile, t.prefill, t.decode,
       t.decode > 0 ? static_cast<double>(t.decode_tokens) / t.decode : 0.0,
       t.reference, t.reference_passes, more);
  Line(out, "  peak memory {}", DescribeMemory(v));
  Line(out, "{}", VerdictLine(v));
}

}  // namespace

std::string VerdictLine(const Verification& v) {
  const std::string reason = ShowControls(v.reason);
  if (v.outcome == Outcome::kPass) return "✓ ALL TESTS PASSED: " + reason;
  // What compared nothing is no success.
  return fmt::format(
      "{} {}: {}", v.outcome == Outcome::kNotChecked ? "✗" : SignOf(v.outcome),
      UpperCase(WordOf(v.outcome)), reason);
}

std::string ConsoleReport(const Verification& v) {
  std::string out;
  AppendHeader(v, out);
  for (size_t i = 0; i < v.prompts.size(); ++i) {
    AppendPrompt(v.prompts[i], i, v.prompts.size(), out);
  }
  AppendEvaluation(v, out);
  AppendFaithful(v, out);
  AppendCost(v, out);
  AppendChecks("The TFLite model against itself", v.checks[CheckGroup::kSelf],
               out);
  AppendFindings(v, out);
  AppendNotes(v, out);
  AppendSummary(v, out);
  return out;
}

}  // namespace verify_tflite
