// Findings name what is wrong. Each has a page in docs/findings.md, from which
// its words come; to add a finding, add a page there.
#ifndef VERIFY_TFLITE_RESULT_FINDING_H_
#define VERIFY_TFLITE_RESULT_FINDING_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "result/checks.h"
#include "result/finding_id.h"

namespace verify_tflite {

// Returns "rope-base".
std::string_view NameOf(FindingId id);
// Returns none for a name that is no finding's.
std::optional<FindingId> ParseFindingId(std::string_view name);

struct Finding {
  FindingId id = {};
  Outcome severity = Outcome::kBroken;
  std::string sentence;     // what it means for who runs the file
  std::string evidence;     // what was found on both sides; may have lines
  std::string cause = "";   // the likely ones; may be empty
  std::string remedy = "";  // what to do; may be empty
};

// MakeFinding returns a finding in the words of its page. A `sentence` or
// `cause` that is not empty replaces the page's, because it holds figures or
// tells more than the page can.
struct FindingParts {
  FindingId id = {};
  Outcome severity = Outcome::kBroken;
  std::string evidence = "";
  std::string sentence = "";
  std::string cause = "";
};
Finding MakeFinding(FindingParts parts);

// A page of docs/findings.md, as text without marks for bold.
struct FindingPage {
  std::string id;
  std::string summary;  // one sentence
  std::string causes;   // of "Likely causes:", in one line
  std::string remedy;   // of "What to do:", in one line
  std::string text;     // all of it, from the id on
};

// Returns a page for each heading of the second level.
std::vector<FindingPage> ReadFindingPages(std::string_view document);

// The text of docs/findings.md, as it was when this was built.
extern const std::string_view kFindingsDocument;

// Returns its pages in its order, which is that of FindingId.
const std::vector<FindingPage>& FindingPages();

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_FINDING_H_
