#include "text/limited_child.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>

#include "base/error.h"

namespace verify_tflite {
namespace {

// First byte of what the child sends.
constexpr char kResult = 'r';
constexpr char kFailure = 'f';

void Limit(int resource, rlim_t value) {
  const rlimit limit = {value, value};
  setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

// Bytes of writable private memory, which is what RLIMIT_DATA counts.
rlim_t DataInUse() {
  unsigned long size = 0, resident = 0, shared = 0, text = 0, lib = 0, data = 0;
  FILE* file = fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  const int read = fscanf(file, "%lu %lu %lu %lu %lu %lu", &size, &resident,
                          &shared, &text, &lib, &data);
  fclose(file);
  return read == 6 ? data * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) : 0;
}

void WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(1);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

std::string ReadAll(int fd) {
  std::string bytes;
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return bytes;
    bytes.append(buffer, static_cast<size_t>(n));
  }
}

[[noreturn]] void RunChild(int fd, const std::function<std::string()>& work,
                           const ChildLimits& limits) {
  // Handlers of the program would report a crash as its own.
  for (const int number :
       {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU, SIGALRM}) {
    signal(number, SIG_DFL);
  }
  Limit(RLIMIT_CORE, 0);
  Limit(RLIMIT_CPU, limits.cpu_seconds);
  alarm(limits.clock_seconds);
  Limit(RLIMIT_DATA, DataInUse() + limits.memory_bytes);
  try {
    const std::string result = work();
    WriteAll(fd, {&kResult, 1});
    WriteAll(fd, result);
  } catch (const std::bad_alloc&) {
    WriteAll(fd, {&kFailure, 1});
    WriteAll(fd, "it needs too much memory");
  } catch (const std::exception& e) {
    WriteAll(fd, {&kFailure, 1});
    WriteAll(fd, e.what());
  }
  _exit(0);  // not exit: the handlers of atexit are the parent's
}

int Wait(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// SIGKILL follows where SIGXCPU is held back.
bool MetTimeLimit(int number) {
  return number == SIGXCPU || number == SIGKILL || number == SIGALRM;
}

}  // namespace

std::string RunInLimitedChild(const std::function<std::string()>& work,
                              const ChildLimits& limits) {
  int ends[2];
  if (pipe(ends) != 0) {
    throw Error("cannot make a pipe: {}", std::strerror(errno));
  }
  const pid_t child = fork();
  if (child < 0) {
    const int reason = errno;
    close(ends[0]);
    close(ends[1]);
    throw Error("cannot start a child process: {}", std::strerror(reason));
  }
  if (child == 0) {
    close(ends[0]);
    RunChild(ends[1], work, limits);
  }
  close(ends[1]);
  std::string sent = ReadAll(ends[0]);
  close(ends[0]);
  const int status = Wait(child);

  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) {
    throw Error("it crashed, probably because it is nested too deeply");
  }
  if (WIFSIGNALED(status) && MetTimeLimit(WTERMSIG(status))) {
    throw Error("it took more than {} s of processor time or {} s in all",
                limits.cpu_seconds, limits.clock_seconds);
  }
  if (WIFSIGNALED(status)) {
    throw Error("it crashed ({})", strsignal(WTERMSIG(status)));
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || sent.empty()) {
    throw Error("it ended without a result");
  }
  if (sent[0] == kFailure) throw Error("{}", std::string_view(sent).substr(1));
  sent.erase(0, 1);
  return sent;
}

}  // namespace verify_tflite
