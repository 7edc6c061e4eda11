#include "cli/terminal.h"

#include <fcntl.h>
#include <unistd.h>

namespace verify_tflite {
namespace {

std::FILE* g_terminal = nullptr;  // null: standard error itself

}  // namespace

std::FILE* Terminal() { return g_terminal != nullptr ? g_terminal : stderr; }

void KeepLibrariesQuiet() {
#if !defined(__SANITIZE_ADDRESS__)
  std::fflush(stderr);
  // Not below 3: with standard input or output closed, the copy would take
  // their place.
  const int user = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  std::FILE* stream = user >= 0 ? fdopen(user, "w") : nullptr;
  if (stream == nullptr || nowhere < 0) {
    // Standard error is closed, or there is no /dev/null: nothing to keep quiet
    // or no place to keep it.
    if (stream != nullptr) {
      std::fclose(stream);
    } else if (user >= 0) {
      close(user);
    }
    if (nowhere >= 0) close(nowhere);
    return;
  }
  setvbuf(stream, nullptr, _IONBF, 0);  // as standard error
  dup2(nowhere, STDERR_FILENO);
  close(nowhere);
  g_terminal = stream;
#endif
}

}  // namespace verify_tflite
