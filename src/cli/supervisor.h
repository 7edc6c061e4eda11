// Runs the work in a child process, so that a crash in one of the libraries
// that read untrusted files ends in a message and exit code 2.
//
// libLiteRt can crash on a damaged model in ways it does not check, and the
// tokenizer library aborts the process on some malformed files (measured; they
// are other people's code). A verifier must not die without a message.
#ifndef VERIFY_TFLITE_CLI_SUPERVISOR_H_
#define VERIFY_TFLITE_CLI_SUPERVISOR_H_

#include <functional>
#include <string_view>

namespace verify_tflite {

// The work calls it to say what it is doing. The text is shown if it dies
// there.
using StageFn = std::function<void(std::string_view stage)>;

// Forks, runs `work` in the child and returns its exit code. If a signal kills
// the child, it says so on standard error and returns 2. After an interrupt
// from the terminal it returns 130 without a message. Call it before any thread
// is started.
int RunSupervised(const std::function<int(const StageFn&)>& work);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CLI_SUPERVISOR_H_
