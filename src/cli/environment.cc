#include "cli/environment.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <sstream>

#include "base/error.h"
#include "checkpoint/model_config.h"

namespace verify_tflite {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpointParts[] = {".json", ".jinja", ".model"};
constexpr std::string_view kSafetensors[] = {".safetensors"};
constexpr std::string_view kPickles[] = {".bin", ".pt", ".pth", ".ckpt"};

std::string ReadText(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

// The value of "key : value"; empty if no line has the key.
std::string CpuField(std::string_view cpuinfo, std::string_view key) {
  std::istringstream lines{std::string(cpuinfo)};
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(key)) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

// The path of a library that this process has mapped; empty if it has not.
std::string LoadedLibrary(std::string_view file_name) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t slash = line.find('/');
    if (slash == std::string::npos) continue;
    const fs::path path = line.substr(slash);
    if (path.filename() == file_name) return path;
  }
  return "";
}

// RECORD has a line "path,hash,size" for each file (packaging.python.org,
// "Recording installed projects").
bool Records(const fs::path& dist_info, const std::string& file) {
  std::ifstream record(dist_info / "RECORD");
  for (std::string line; std::getline(record, line);) {
    if (line.starts_with(file + ",")) return true;
  }
  return false;
}

std::string VersionIn(const fs::path& dist_info) {
  constexpr std::string_view kField = "Version: ";
  std::ifstream metadata(dist_info / "METADATA");
  for (std::string line; std::getline(metadata, line) && !line.empty();) {
    if (line.starts_with(kField)) return line.substr(kField.size());
  }
  return "";
}

std::string Hexadecimal(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// Read, not mapped: what is hashed beside the work must not count as its
// memory. Empty when asked to stop.
std::string Sha256(const std::string& path, const std::stop_token& stop) {
  constexpr size_t kBlock = size_t{1} << 20;
  std::ifstream file(path, std::ios::binary);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(
      EVP_MD_CTX_new(), EVP_MD_CTX_free);
  bool ok = context != nullptr &&
            EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  std::vector<char> block(kBlock);
  while (ok && file) {
    if (stop.stop_requested()) return "";
    file.read(block.data(), std::ssize(block));
    ok = EVP_DigestUpdate(context.get(), block.data(),
                          static_cast<size_t>(file.gcount())) == 1;
  }
  if (!file.eof()) throw Error("{}: cannot read it to hash it", path);
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (!ok || EVP_DigestFinal_ex(context.get(), digest.data(), &size) != 1) {
    throw Error("{}: SHA-256 failed in libcrypto", path);
  }
  return Hexadecimal(std::span(digest).first(size));
}

// Regular files of the directory with one of these extensions, by name.
template <typename Extensions>
std::vector<fs::path> FilesIn(const fs::path& directory,
                              const Extensions& extensions) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    // An empty file cannot be mapped, and says nothing.
    if (!it->is_regular_file(ignored) || it->file_size(ignored) == 0) continue;
    const std::string extension = it->path().extension().string();
    if (std::find(std::begin(extensions), std::end(extensions), extension) !=
        std::end(extensions)) {
      files.push_back(it->path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<fs::path> CheckpointFiles(const fs::path& path) {
  std::error_code ignored;
  const bool directory = fs::is_directory(path, ignored);
  const fs::path parent = path.has_parent_path() ? path.parent_path() : ".";
  const fs::path& root = directory ? path : parent;
  std::vector<fs::path> files = FilesIn(root, kCheckpointParts);
  std::vector<fs::path> weights;
  if (directory) {
    weights = FilesIn(root, kSafetensors);
    if (weights.empty()) weights = FilesIn(root, kPickles);
  } else if (std::find(files.begin(), files.end(), path) == files.end()) {
    weights = {path};
  }
  files.insert(files.end(), weights.begin(), weights.end());
  return files;
}

}  // namespace

std::string ShellCommand(int argc, const char* const* argv) {
  constexpr std::string_view kSafe =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
      "_-+=./:,@%";
  std::string command;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (i > 0) command += ' ';
    if (!argument.empty() &&
        argument.find_first_not_of(kSafe) == std::string_view::npos) {
      command += argument;
      continue;
    }
    command += '\'';
    for (const char c : argument) {
      if (c == '\'') {
        command += "'\\''";
      } else {
        command += c;
      }
    }
    command += '\'';
  }
  return command;
}

std::string CpuModel(std::string_view cpuinfo) {
  const std::string name = CpuField(cpuinfo, "model name");
  if (!name.empty()) return name;
  const std::string implementer = CpuField(cpuinfo, "CPU implementer");
  if (implementer.empty()) return "";
  return fmt::format("CPU implementer {}, part {}", implementer,
                     CpuField(cpuinfo, "CPU part"));
}

std::string PackageVersion(const std::string& library) {
  const fs::path path(library);
  std::error_code error;
  for (fs::path root = path.parent_path();
       root.has_parent_path() && root != root.parent_path();
       root = root.parent_path()) {
    if (root.filename() != "site-packages" &&
        root.filename() != "dist-packages") {
      continue;
    }
    const std::string file = path.lexically_relative(root).string();
    for (fs::directory_iterator it(root, error), end; !error && it != end;
         it.increment(error)) {
      if (it->path().extension() == ".dist-info" && Records(*it, file)) {
        return VersionIn(*it);
      }
    }
  }
  return "";
}

Environment DescribeEnvironment(int argc, const char* const* argv) {
  Environment e;
  e.command = ShellCommand(argc, argv);
  e.date = UtcNow();
  e.cpu = CpuModel(ReadText("/proc/cpuinfo"));
  e.litert_version = PackageVersion(LoadedLibrary("libLiteRt.so"));
  e.torch_version = PackageVersion(LoadedLibrary("libtorch_cpu.so"));
  e.reference_version = kTransformers;
  return e;
}

FileHashes HashFiles(const std::string& tflite_path,
                     const std::string& checkpoint_path,
                     const std::stop_token& stop) {
  std::vector<fs::path> files = CheckpointFiles(checkpoint_path);
  std::error_code ignored;
  // A pipe or a device would be waited for; the run itself refuses it.
  if (!fs::exists(tflite_path, ignored) ||
      fs::is_regular_file(tflite_path, ignored)) {
    files.insert(files.begin(), tflite_path);
  }
  FileHashes hashes;
  for (const fs::path& path : files) {
    if (stop.stop_requested()) break;
    hashes.emplace_back(path.filename().string(), Sha256(path.string(), stop));
  }
  return hashes;
}

}  // namespace verify_tflite
