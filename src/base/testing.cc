#include "base/testing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "base/json_file.h"

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

void PrintTo(const SoundModel& model, std::ostream* out) {
  *out << model.file << " of " << model.checkpoint;
}

std::vector<SoundModel> SoundModelsOf(std::string_view suite) {
  std::vector<SoundModel> models;
  const nlohmann::json catalogue = ReadJsonFile(TestDataPath("models.json"));
  for (const nlohmann::json& entry : catalogue.at("models")) {
    const auto suites = entry.value("suites", std::vector<std::string>());
    if (std::ranges::find(suites, suite) == suites.end()) continue;
    const std::string weights = entry.value("weights", "float32");
    models.push_back({entry.at("file"), entry.at("checkpoint"), weights,
                      entry.value("embedding", weights),
                      entry.value("rotated", false)});
  }
  if (models.empty()) throw Error("models.json: nothing for '{}'", suite);
  return models;
}

std::string CaseName(const ::testing::TestParamInfo<SoundModel>& info) {
  std::string name = info.param.file;
  for (char& c : name) c = std::isalnum(c) != 0 ? c : '_';
  return name;
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

void ExpectTruncationsRefused(const std::string& good, std::string_view message,
                              const ReadContentFn& read) {
  for (size_t size = 0; size < good.size(); ++size) {
    try {
      read(good.substr(0, size));
      EXPECT_GT(size + 8, good.size());
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), ::testing::HasSubstr(std::string(message)));
    }
  }
}

int CountRefusedDamage(const std::string& good, int rounds,
                       const ReadContentFn& read) {
  std::mt19937 random(1);
  int refused = 0;
  for (int i = 0; i < rounds; ++i) {
    std::string content = good;
    for (size_t n = 1 + random() % 4; n > 0; --n) {
      content[random() % content.size()] = static_cast<char>(random());
    }
    try {
      read(content);
    } catch (const Error&) {
      ++refused;
    }
  }
  return refused;
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
