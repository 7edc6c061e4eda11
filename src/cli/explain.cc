#include "cli/explain.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "base/utf8.h"
#include "result/finding.h"

namespace verify_tflite {
namespace {

// Levenshtein's distance.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j + 1] + 1, row[j] + 1, replaced});
    }
  }
  return row.back();
}

std::string List(const std::vector<FindingPage>& pages) {
  size_t width = 0;
  for (const FindingPage& page : pages) width = std::max(width, page.id.size());
  std::string out;
  for (const FindingPage& page : pages) {
    out += fmt::format("{:<{}}  {}\n", page.id, width, page.summary);
  }
  return out;
}

std::string NearestIds(const std::vector<FindingPage>& pages,
                       std::string_view id) {
  constexpr size_t kMaxLength = 64;  // no id is longer
  const std::string_view start = id.substr(0, kMaxLength);
  std::string best;
  size_t least = SIZE_MAX;
  for (const FindingPage& page : pages) {
    const size_t distance = Distance(page.id, start);
    if (distance > least) continue;
    best = distance < least ? page.id : best + " or " + page.id;
    least = distance;
  }
  return best;
}

}  // namespace

std::function<ExplainFlags()> AddExplain(CLI::App& command) {
  const auto flags = std::make_shared<ExplainFlags>();
  command.description("What does a finding mean, and what is to be done?");
  command.footer(
      "Without ID: all of them, with a line each. The same is in "
      "docs/findings.md.");
  command.add_option("ID", flags->id, "of a finding, as in a report");
  return [flags] { return *flags; };
}

std::string Explain(const ExplainFlags& flags) {
  const std::vector<FindingPage>& pages = FindingPages();
  if (flags.id.empty()) return List(pages);
  for (const FindingPage& page : pages) {
    if (page.id == flags.id) return page.text;
  }
  throw Error(
      "explain: no finding is called {}; do you mean {}? (verify_tflite "
      "explain lists all)",
      Quote(flags.id), NearestIds(pages, flags.id));
}

}  // namespace verify_tflite
