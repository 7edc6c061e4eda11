#include "base/testing.h"

#include <stdlib.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/error.h"

namespace verify_tflite {
namespace {

std::string Existing(const std::filesystem::path& folder,
                     std::string_view name) {
  const std::string path = folder / name;
  if (!std::filesystem::exists(path)) {
    throw Error("{} is missing: ./test makes it", path);
  }
  return path;
}

}  // namespace

std::string ModelPath(std::string_view name) {
  return Existing(CACHE_DIR "/models", name);
}

std::string ExpectedPath(std::string_view name) {
  return Existing(CACHE_DIR "/expected", name);
}

std::string TestDataPath(std::string_view name) {
  return Existing(TESTDATA_DIR, name);
}

std::string BuiltPath(std::string_view name) {
  return Existing(BUILD_DIR, name);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error("{}: cannot open", path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<float> ReadFloats(const std::string& path) {
  static_assert(std::endian::native == std::endian::little);
  const std::string bytes = ReadFile(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

void WriteFile(const std::string& path, std::string_view content) {
  std::ofstream out(path, std::ios::binary);
  out << content;
  out.close();
  if (!out) throw Error("{}: cannot write", path);
}

TempDir::TempDir() {
  std::string name =
      (std::filesystem::temp_directory_path() / "verify_tflite_XXXXXX")
          .string();
  if (mkdtemp(name.data()) == nullptr) throw Error("cannot make {}", name);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::Write(std::string_view name,
                           std::string_view content) const {
  const std::string path = File(name);
  WriteFile(path, content);
  return path;
}

}  // namespace verify_tflite
