#include "text/eos.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_file.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

int32_t ToId(const json& value, const std::string& origin, int64_t vocab_size) {
  if (!value.is_number_integer()) {
    throw Error("{} is {}, expected a token id or a list", origin,
                value.dump());
  }
  // A number above the range of int64_t comes out negative.
  const auto id = value.get<int64_t>();
  if (id < 0 || id >= vocab_size) {
    throw Error("{} {} is no token: tokenizer.json has ids below {}", origin,
                value.dump(), vocab_size);
  }
  return static_cast<int32_t>(id);
}

// Empty when `config` has no, or a null, `eos_token_id`. `where` begins the
// message of an Error: "<path>: `", "<path>: `text_config.".
std::vector<int32_t> IdsOf(const json& config, const std::string& where,
                           int64_t vocab_size) {
  const auto value = config.find("eos_token_id");
  if (value == config.end() || value->is_null()) return {};
  const std::string origin = where + "eos_token_id`";
  if (!value->is_array()) return {ToId(*value, origin, vocab_size)};
  std::vector<int32_t> ids;
  for (const json& id : *value) ids.push_back(ToId(id, origin, vocab_size));
  return ids;
}

std::vector<int32_t> IdsOfGenerationConfig(const std::string& path,
                                           int64_t vocab_size) {
  if (!std::filesystem::exists(path)) return {};
  return IdsOf(ReadJsonFile(path), path + ": `", vocab_size);
}

// The config of a model of text and images has one for each inside, of which
// the first of these names counts (GenerationConfig.from_model_config).
std::vector<int32_t> IdsOfConfig(const std::string& path, int64_t vocab_size) {
  if (!std::filesystem::exists(path)) return {};
  const json config = ReadJsonFile(path);
  auto ids = IdsOf(config, path + ": `", vocab_size);
  if (!ids.empty()) return ids;
  for (const char* name : {"decoder", "generator", "text_config"}) {
    const auto inner = config.find(name);
    if (inner == config.end() || !inner->is_object() || inner->empty()) {
      continue;
    }
    return IdsOf(*inner, fmt::format("{}: `{}.", path, name), vocab_size);
  }
  return {};
}

std::vector<int32_t> IdOfTokenizerConfig(const std::string& path,
                                         const Tokenizer& tokenizer) {
  if (!std::filesystem::exists(path)) return {};
  const json config = ReadJsonFile(path);
  auto token = config.value("eos_token", json());
  if (token.is_object()) token = token.value("content", json());
  if (!token.is_string()) return {};
  const auto& text = token.get_ref<const std::string&>();
  const auto id = tokenizer.TokenToId(text);
  if (!id) {
    throw Error("{}: `eos_token` {} is not in tokenizer.json", path,
                Quote(text));
  }
  return {*id};
}

}  // namespace

std::vector<int32_t> ReadEosIds(const std::string& directory,
                                const Tokenizer& tokenizer) {
  const int64_t vocab_size = tokenizer.vocab_size();
  auto ids =
      IdsOfGenerationConfig(directory + "/generation_config.json", vocab_size);
  if (ids.empty()) ids = IdsOfConfig(directory + "/config.json", vocab_size);
  if (ids.empty()) {
    ids = IdOfTokenizerConfig(directory + "/tokenizer_config.json", tokenizer);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace verify_tflite
