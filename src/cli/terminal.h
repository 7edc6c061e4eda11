// Where the program writes to its user, apart from its reports.
#ifndef VERIFY_TFLITE_CLI_TERMINAL_H_
#define VERIFY_TFLITE_CLI_TERMINAL_H_

#include <cstdio>

namespace verify_tflite {

// Returns standard error as the program found it. Errors and progress go there.
std::FILE* Terminal();

// Discards from now on what anything writes to file descriptor 2, while
// Terminal() still reaches the user. Libraries print notices there, and the
// text of panics that the program has caught. It does nothing in builds with
// sanitizers, whose findings are written there. Call it once, before other
// threads start.
void KeepLibrariesQuiet();

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_TERMINAL_H_
