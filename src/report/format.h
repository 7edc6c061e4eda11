// Several reporters need this: escaping, words, the first difference of two
// texts.
#ifndef VERIFY_TFLITE_REPORT_FORMAT_H_
#define VERIFY_TFLITE_REPORT_FORMAT_H_

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "result/verification.h"

namespace verify_tflite {

// Appends a line of text.
template <typename... Args>
void Line(std::string& out, fmt::format_string<Args...> format,
          Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
  out += '\n';
}

// Returns `text` with what XML 1.0 cannot hold made visible: ill-formed UTF-8,
// C1 controls, U+FFFE and U+FFFF become U+FFFD, other controls \u001B; line
// breaks and tabs become \n, \t and \r, unless `keep_lines`.
std::string ShowControls(std::string_view text, bool keep_lines = false);

// Returns ShowControls as content or as a quoted attribute of XML 1.0 and HTML:
// & < > " ' become references.
std::string EscapeMarkup(std::string_view text, bool keep_lines = false);

// Returns the first `max_bytes` of `text`, cut between characters, with "…"
// where something was cut.
std::string Shorten(std::string_view text, size_t max_bytes);

// Returns "Passed", "Not checked", ….
std::string Headline(Outcome outcome);

// Returns three significant digits; "not a number", "∞".
std::string Figure(double value);

// Returns "0.0183 [0.015, 0.02], limit 0.1"; empty for a check without figures.
std::string FiguresOf(const Check& check);

// Returns [begin, end) ranges as "0–7, 62–70"; of many, only the first ones.
std::string Ranges(std::span<const std::pair<int64_t, int64_t>> ranges);

// Returns "1283 of 1283" operators verified; "–" of a signature that did not
// run.
std::string CoverageText(const SignatureStructure& signature);

// Returns its largest error, or "–".
std::string WorstText(const SignatureStructure& signature, bool linear);

std::string Megabytes(int64_t bytes);

// Returns "956 MB (610 MB private, 346 MB of mapped files)": the run's peak,
// divided as far as it is known.
std::string DescribeMemory(const Verification& v);

// Returns where the two greedy texts first differ, in bytes: after the last
// shared token or, where a tokenizer joins differently, at the first differing
// character. Returns npos if they are equal.
size_t PartAt(const PromptResult& result);

// Say what the reference is, what saved the checkpoint and what made the file;
// empty where that is not known.
std::string ReferenceOf(const Verification& verification);
std::string SavedBy(const Verification& verification);
std::string ConverterOf(const Verification& verification);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_FORMAT_H_
