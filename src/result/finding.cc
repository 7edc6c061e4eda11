#include "result/finding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

namespace verify_tflite {
namespace {

// Bold is for the document alone.
std::string WithoutBold(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) == "**") {
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Returns what follows `title` in a list of a page, up to the next entry or
// blank line, as one line.
std::string EntryOf(std::string_view page, std::string_view title) {
  const std::string start = fmt::format("\n- {}", title);
  const size_t at = page.find(start);
  if (at == std::string_view::npos) return "";
  std::string_view entry = page.substr(at + start.size());
  entry = entry.substr(0, std::min(entry.find("\n- "), entry.find("\n\n")));
  std::string line;
  for (const char c : entry) {
    const bool blank = std::isspace(static_cast<unsigned char>(c)) != 0;
    if (!blank) line += c;
    if (blank && !line.empty() && line.back() != ' ') line += ' ';
  }
  while (line.ends_with(' ')) line.pop_back();
  return line;
}

}  // namespace

std::string_view NameOf(FindingId id) {
  return kFindingNames[static_cast<size_t>(id)];
}

std::optional<FindingId> ParseFindingId(std::string_view name) {
  const auto at = std::ranges::find(kFindingNames, name);
  if (at == std::end(kFindingNames)) return std::nullopt;
  return static_cast<FindingId>(at - std::begin(kFindingNames));
}

Finding MakeFinding(FindingParts parts) {
  const FindingPage& page = FindingPages()[static_cast<size_t>(parts.id)];
  Finding finding;
  finding.id = parts.id;
  finding.severity = parts.severity;
  finding.sentence =
      parts.sentence.empty() ? page.summary : std::move(parts.sentence);
  finding.evidence = std::move(parts.evidence);
  finding.cause = parts.cause.empty() ? page.causes : std::move(parts.cause);
  finding.remedy = page.remedy;
  return finding;
}

std::vector<FindingPage> ReadFindingPages(std::string_view document) {
  constexpr std::string_view kHeading = "\n## ";
  std::vector<FindingPage> pages;
  size_t at = document.find(kHeading);
  while (at != std::string_view::npos) {
    const size_t next = document.find(kHeading, at + 1);
    std::string_view body = document.substr(
        at + kHeading.size(),
        next == std::string_view::npos ? next : next - at - kHeading.size());
    FindingPage page;
    page.id = body.substr(0, body.find('\n'));
    body.remove_prefix(std::min(body.size(), page.id.size()));
    body.remove_prefix(std::min(body.find_first_not_of('\n'), body.size()));
    const std::string text = WithoutBold(body);
    page.summary = text.substr(0, text.find('\n'));
    page.causes = EntryOf(text, "Likely causes:");
    page.remedy = EntryOf(text, "What to do:");
    page.text = fmt::format("{}\n\n{}", page.id, text);
    if (!page.text.ends_with('\n')) page.text += '\n';
    pages.push_back(std::move(page));
    at = next;
  }
  return pages;
}

const std::vector<FindingPage>& FindingPages() {
  static const std::vector<FindingPage> pages =
      ReadFindingPages(kFindingsDocument);
  return pages;
}

}  // namespace verify_tflite
