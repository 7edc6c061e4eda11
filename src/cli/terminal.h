// Where the program speaks to its user beside its reports.
#ifndef VERIFY_TFLITE_CLI_TERMINAL_H_
#define VERIFY_TFLITE_CLI_TERMINAL_H_

#include <cstdio>

namespace verify_tflite {

// Standard error as the program found it: errors and progress go there.
std::FILE* Terminal();

// From now on what anything writes to file descriptor 2 goes nowhere, while
// Terminal() still reaches the user: libraries print notices, and the text of
// panics that the program has caught. Does nothing in builds with sanitizers,
// whose findings are written there. To be called once, before other threads
// start.
void KeepLibrariesQuiet();

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_TERMINAL_H_
