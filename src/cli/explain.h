// Runs the command `verify_tflite explain`.
#ifndef VERIFY_TFLITE_CLI_EXPLAIN_H_
#define VERIFY_TFLITE_CLI_EXPLAIN_H_

#include <string>

namespace verify_tflite {

// Returns what to print: the page of the id or, without one, all ids with their
// summaries. Throws Error for an id that has no page, with the nearest ones,
// and for other arguments.
std::string Explain(int argc, const char* const* argv);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_EXPLAIN_H_
