#include "report/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include "base/utf8.h"
#include "result/faithful.h"

namespace verify_tflite {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

bool IsContinuation(char byte) {
  return (static_cast<uint8_t>(byte) & 0xC0) == 0x80;
}

void AppendControl(char c, std::string& out) {
  switch (c) {
    case '\n':
      out += "\\n";
      return;
    case '\t':
      out += "\\t";
      return;
    case '\r':
      out += "\\r";
      return;
    default:
      fmt::format_to(std::back_inserter(out), "\\u{:04X}",
                     static_cast<uint8_t>(c));
  }
}

// Replaces a character of more than one byte that is not to be shown.
std::string_view Visible(std::string_view character) {
  const bool c1 = character.size() == 2 && character[0] == '\xC2' &&
                  static_cast<uint8_t>(character[1]) < 0xA0;
  const bool none = character == "\uFFFE" || character == "\uFFFF";
  return c1 || none ? kReplacement : character;
}

}  // namespace

std::string ShowControls(std::string_view text, bool keep_lines) {
  const std::string valid = ReplaceInvalidUtf8(text);
  std::string out;
  out.reserve(valid.size());
  for (size_t i = 0; i < valid.size();) {
    size_t end = i + 1;
    while (end < valid.size() && IsContinuation(valid[end])) ++end;
    const std::string_view character(valid.data() + i, end - i);
    const char c = character[0];
    const bool line = c == '\n' || c == '\t' || c == '\r';
    i = end;
    if (((c >= 0 && c < 0x20) || c == 0x7F) && !(line && keep_lines)) {
      AppendControl(c, out);
    } else {
      out += Visible(character);
    }
  }
  return out;
}

std::string EscapeMarkup(std::string_view text, bool keep_lines) {
  std::string out;
  out.reserve(text.size());
  for (const char c : ShowControls(text, keep_lines)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Shorten(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  while (max_bytes > 0 && IsContinuation(text[max_bytes])) --max_bytes;
  return std::string(text.substr(0, max_bytes)) + "…";
}

std::string Figure(double value) {
  if (std::isnan(value)) return "not a number";
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  return fmt::format("{:.3g}", value);
}

std::string FiguresOf(const Check& check) {
  std::string text;
  if (check.value) text = Figure(*check.value);
  if (check.interval) {
    text += fmt::format(" [{}, {}]", Figure(check.interval->low),
                        Figure(check.interval->high));
  }
  if (check.limit) {
    text += fmt::format("{}limit {}", text.empty() ? "" : ", ",
                        Figure(*check.limit));
  }
  return text;
}

std::string Ranges(std::span<const std::pair<int64_t, int64_t>> ranges) {
  constexpr size_t kShown = 6;
  std::vector<std::string> parts;
  for (const auto& [begin, end] : ranges) {
    if (parts.size() == kShown) {
      parts.push_back("…");
      break;
    }
    parts.push_back(end - begin > 1 ? fmt::format("{}–{}", begin, end - 1)
                                    : std::to_string(begin));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string Headline(Outcome outcome) {
  std::string word(WordOf(outcome));
  word[0] = static_cast<char>(word[0] - 'a' + 'A');
  return word;
}

std::string Megabytes(int64_t bytes) {
  return fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6);
}

std::string DescribeMemory(const Verification& v) {
  const std::string peak = Megabytes(v.peak_memory_bytes);
  if (!v.peak_mapped_bytes) return peak;
  return fmt::format("{} ({} private, {} of mapped files)", peak,
                     Megabytes(v.peak_memory_bytes - *v.peak_mapped_bytes),
                     Megabytes(*v.peak_mapped_bytes));
}

size_t PartAt(const PromptResult& result) {
  const std::string_view a = result.reference_text;
  const std::string_view b = result.candidate_text;
  const std::string_view shared = result.shared_text;
  if (a == b) return std::string_view::npos;
  if (a.starts_with(shared) && b.starts_with(shared)) return shared.size();
  size_t i =
      std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
  const auto inside = [&](std::string_view text) {
    return i < text.size() && IsContinuation(text[i]);
  };
  while (i > 0 && (inside(a) || inside(b))) --i;
  return i;
}

std::string CoverageText(const SignatureStructure& s) {
  if (!s.not_run.empty()) return "–";
  return fmt::format("{} of {}", s.verified_ops, s.ops);
}

std::string WorstText(const SignatureStructure& s, bool linear) {
  if (const StageAgreement* steps = WorstSteps(s, linear)) {
    return fmt::format("{} of {} steps", Figure(steps->worst),
                       Figure(steps->limit));
  }
  const auto worst = WorstError(s, linear);
  return worst ? Figure(*worst) : "–";
}

std::string ReferenceOf(const Verification& verification) {
  const std::string& version = verification.environment.reference_version;
  if (version.empty()) return "";
  return fmt::format("verify_tflite's own, of what transformers {} computes",
                     version);
}

std::string SavedBy(const Verification& verification) {
  const std::string& version = verification.config.transformers_version;
  return version.empty() ? ""
                         : fmt::format("saved by transformers {}", version);
}

std::string ConverterOf(const Verification& verification) {
  std::string made = verification.model.converted_by;
  const std::string& oldest = verification.model.min_runtime_version;
  if (!oldest.empty()) {
    made += fmt::format("{}runs on {} or later, as the file says",
                        made.empty() ? "" : "; ", oldest);
  }
  return made;
}

}  // namespace verify_tflite
