#include "cli/supervisor.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cli/terminal.h"

namespace verify_tflite {
namespace {

constexpr size_t kStageBytes = 512;

std::string_view Explain(int signal) {
  switch (signal) {
    case SIGBUS:
      return "a file was cut short while it was read, or one of the libraries "
             "read past its end";
    case SIGXFSZ:
      return "the disk is full, or a file grew beyond what this process may "
             "write (ulimit -f)";
    case SIGKILL:
      return "most likely the system ran out of memory";
    default:
      return "one of the libraries crashed on this input; the file named above "
             "is likely damaged";
  }
}

int ReportDeath(int signal, const char* stage) {
  if (signal == SIGINT) return 128 + SIGINT;
  fmt::print(stderr,
             "verify_tflite: error: killed by signal {} ({}) while {}: {}. "
             "Nothing was verified.\n",
             signal, strsignal(signal), stage, Explain(signal));
  return 2;
}

}  // namespace

int RunSupervised(const std::function<int(const StageFn&)>& work) {
  void* shared = mmap(nullptr, kStageBytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return work([](std::string_view) {});
  auto* stage = static_cast<char*>(shared);
  std::strcpy(stage, "starting");
  std::fflush(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return work([](std::string_view) {});
  if (child == 0) {
    // The work must not outlive a killed supervisor.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(2);
    // A write beyond the limit then fails and is told, instead of ending all.
    signal(SIGXFSZ, SIG_IGN);
    KeepLibrariesQuiet();
    const int code = work([stage](std::string_view text) {
      const size_t size = std::min(text.size(), kStageBytes - 1);
      std::memcpy(stage, text.data(), size);
      stage[size] = '\0';
    });
    std::fflush(nullptr);
    // Skips static destructors: libraries loaded with dlopen have been seen to
    // crash in theirs, and all results are written.
    _exit(code);
  }
  // An interrupt from the terminal reaches the child too; its end decides.
  signal(SIGINT, SIG_IGN);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const int code = WIFSIGNALED(status) ? ReportDeath(WTERMSIG(status), stage)
                                       : WEXITSTATUS(status);
  munmap(shared, kStageBytes);
  return code;
}

}  // namespace verify_tflite
