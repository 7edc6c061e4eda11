// The command `verify_tflite explain`.
#ifndef VERIFY_TFLITE_CLI_EXPLAIN_H_
#define VERIFY_TFLITE_CLI_EXPLAIN_H_

#include <string>
#include <string_view>
#include <vector>

namespace verify_tflite {

// The page of one finding in docs/findings.md.
struct FindingPage {
  std::string id;
  std::string summary;  // its first sentence
  std::string text;     // all of it, for a terminal
};

// docs/findings.md as it was when the program was built.
extern const std::string_view kFindingsDocument;

// Pages begin with "## id".
std::vector<FindingPage> ReadFindingPages(std::string_view document);

// What to print: the page of the id, or without one, all ids with their
// summaries. Throws Error for an id that has no page, with the nearest ones,
// and for other arguments.
std::string Explain(int argc, const char* const* argv);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_EXPLAIN_H_
