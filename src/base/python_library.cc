#include "base/python_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/error.h"

namespace verify_tflite {
namespace {

namespace fs = std::filesystem;

bool IsFile(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// lib/python3.*/site-packages of a virtual environment, sorted.
std::vector<fs::path> SitePackages(const fs::path& environment) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(environment / "lib", error), end;
       !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with("python3")) {
      found.push_back(it->path() / "site-packages");
    }
  }
  std::sort(found.begin(), found.end());
  if (found.empty()) {
    // For the message: the place where pip would put it.
    found.push_back(environment / "lib" / "python3.*" / "site-packages");
  }
  return found;
}

std::vector<fs::path> Candidates(const PythonLibrary& library) {
  std::vector<fs::path> roots;
  const char* active = std::getenv("VIRTUAL_ENV");
  if (active != nullptr && *active != '\0') roots = SitePackages(active);
  roots.emplace_back(VERIFY_TFLITE_SITE_PACKAGES);
  for (fs::path& root : roots) {
    root = root / library.package_dir / library.file_name;
  }
  return roots;
}

}  // namespace

std::string FindPythonLibrary(const PythonLibrary& library) {
  const char* named = std::getenv(library.env_variable.c_str());
  if (named != nullptr && *named != '\0') {
    if (IsFile(named)) return named;
    throw Error(
        "{}: no such file, but the environment variable {} names it. Correct "
        "or "
        "unset it; the file comes with: pip install '{}'",
        named, library.env_variable, library.requirement);
  }
  std::string looked;
  for (const fs::path& path : Candidates(library)) {
    if (IsFile(path)) return path.string();
    looked += "\n  " + path.string();
  }
  throw Error(
      "{} not found. Install it with\n  pip install '{}'\nin an active virtual "
      "environment, or name the file in the environment variable {}. Looked "
      "for:{}",
      library.file_name, library.requirement, library.env_variable, looked);
}

void SharedLibrary::Close::operator()(void* handle) const { dlclose(handle); }

SharedLibrary::SharedLibrary(const std::string& path)
    : path_(path),
      handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
  if (handle_ == nullptr) {
    const char* reason = dlerror();
    throw Error("{}: cannot be loaded as a shared library: {}", path,
                reason == nullptr ? "no reason given" : reason);
  }
}

void* SharedLibrary::Address(const char* name) const {
  void* address = dlsym(handle_.get(), name);
  if (address == nullptr) {
    throw Error(
        "{}: has no function {}. This version of the library is not the one "
        "this program was written for.",
        path_, name);
  }
  return address;
}

}  // namespace verify_tflite
