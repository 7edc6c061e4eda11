// What several reporters need: escaping, words, where two texts part.
#ifndef VERIFY_TFLITE_REPORT_FORMAT_H_
#define VERIFY_TFLITE_REPORT_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "result/verification.h"

namespace verify_tflite {

// `text` with what XML 1.0 has no place for made visible: ill-formed UTF-8, C1
// controls, U+FFFE and U+FFFF as U+FFFD, other controls as \u001B; line breaks
// and tabs as \n, \t and \r, unless `keep_lines`.
std::string ShowControls(std::string_view text, bool keep_lines = false);

// ShowControls as content or as a quoted attribute of XML 1.0 and HTML: & < > "
// ' as references.
std::string EscapeMarkup(std::string_view text, bool keep_lines = false);

// The first `max_bytes` of `text`, cut between characters, with "…" where
// something was cut.
std::string Shorten(std::string_view text, size_t max_bytes);

// "Passed", "Not checked".
std::string Headline(Outcome outcome);

// Three significant digits; "not a number", "∞".
std::string Figure(double value);

// "0.0183 [0.015, 0.02], limit 0.1"; empty for a check without figures.
std::string FiguresOf(const Check& check);

// [begin, end) ranges as "0–7, 62–70"; of many, the first.
std::string Ranges(std::span<const std::pair<int64_t, int64_t>> ranges);

// "1283 of 1283" operators verified; "–" of a signature that did not run.
std::string CoverageText(const SignatureStructure& signature);

// Its largest error, or "–".
std::string WorstText(const SignatureStructure& signature, bool linear);

std::string Megabytes(int64_t bytes);

// "956 MB (610 MB private, 346 MB of mapped files)": the run's peak, parted as
// far as it is known.
std::string DescribeMemory(const Verification& v);

// Where the two greedy texts part, in bytes: behind the last shared token or,
// where a tokenizer joins differently, at the first differing character. npos
// if they are equal.
size_t PartAt(const PromptResult& result);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_FORMAT_H_
