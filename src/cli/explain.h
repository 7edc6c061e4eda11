// Runs the command `verify_tflite explain`.
#ifndef VERIFY_TFLITE_CLI_EXPLAIN_H_
#define VERIFY_TFLITE_CLI_EXPLAIN_H_

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace verify_tflite {

struct ExplainFlags {
  std::string id;  // empty: all of them
};

std::function<ExplainFlags()> AddExplain(CLI::App& command);

// Returns what to print: the page of the id, or without one, all ids with their
// summaries. Throws Error for an id that has no page, with the nearest ones.
std::string Explain(const ExplainFlags& flags);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_EXPLAIN_H_
