#include "text/eos.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

// What stands under a key, and what of it is no token.
struct Found {
  bool named = false;  // with a value other than null or []
  std::vector<int32_t> ids;
  std::vector<std::string> no_tokens;
};

void Add(const json& value, const std::string& origin, int64_t vocab_size,
         Found& found) {
  if (!value.is_number_integer()) {
    throw Error("{} is {}, expected a token id or a list", origin,
                value.dump(-1, ' ', false, json::error_handler_t::replace));
  }
  found.named = true;
  // A number above the range of int64_t comes out negative.
  const auto id = value.get<int64_t>();
  if (id < 0 || id >= vocab_size) {
    found.no_tokens.push_back(value.dump());
  } else {
    found.ids.push_back(static_cast<int32_t>(id));
  }
}

Found Find(const json& config, const char* key, const std::string& where,
           int64_t vocab_size) {
  Found found;
  const auto value = config.find(key);
  if (value == config.end() || value->is_null()) return found;
  const std::string origin = fmt::format("{}{}`", where, key);
  if (!value->is_array()) {
    Add(*value, origin, vocab_size, found);
  } else {
    for (const json& id : *value) Add(id, origin, vocab_size, found);
  }
  return found;
}

class Reader {
 public:
  explicit Reader(int64_t vocab_size) : vocab_size_(vocab_size) {}

  // Whether `config` names ids. `where` begins messages: "<path>: `",
  // "<path>: `text_config.".
  bool Read(const json& config, const std::string& where) {
    const Found found = Find(config, "eos_token_id", where, vocab_size_);
    result.ids = found.ids;
    Note(found, "eos_token_id", where, "generation never ends there");
    return found.named;
  }

  void ReadOthers(const json& config, const std::string& where) {
    for (const char* key : {"bos_token_id", "pad_token_id"}) {
      const auto value = config.find(key);
      if (value == config.end() || !value->is_number_integer()) continue;
      Note(Find(config, key, where, vocab_size_), key, where,
           "nothing here reads it");
    }
  }

  EosIds result;

 private:
  void Note(const Found& found, const char* key, const std::string& where,
            const char* effect) {
    if (found.no_tokens.empty()) return;
    std::vector<std::string> shown(
        found.no_tokens.begin(),
        found.no_tokens.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(
                                      found.no_tokens.size(), 4)));
    result.notes.push_back(fmt::format(
        "{}{}` {}{} is ignored: the tokenizer has ids from 0 to {} ({})", where,
        key, fmt::join(shown, ", "),
        shown.size() < found.no_tokens.size() ? ", …" : "", vocab_size_ - 1,
        effect));
  }

  int64_t vocab_size_;
};

// The config of a model of text and images has one for each inside, of which
// the first of these names counts (GenerationConfig.from_model_config).
bool ReadConfig(const json& config, const std::string& path, Reader& reader) {
  if (reader.Read(config, path + ": `")) return true;
  for (const char* name : {"decoder", "generator", "text_config"}) {
    const auto inner = config.find(name);
    if (inner == config.end() || !inner->is_object() || inner->empty()) {
      continue;
    }
    return reader.Read(*inner, fmt::format("{}: `{}.", path, name));
  }
  return false;
}

// Empty where there is no such file.
json ReadIfThere(const std::string& path) {
  return std::filesystem::exists(path) ? ReadJsonFile(path) : json::object();
}

// `eos_token` of the tokenizer_config.json at `path`; empty for none.
std::string EosToken(const std::string& path) {
  const json config = ReadIfThere(path);
  auto token = config.value("eos_token", json());
  if (token.is_object()) token = token.value("content", json());
  return token.is_string() ? token.get<std::string>() : "";
}

std::vector<int32_t> IdOfTokenizerConfig(const std::string& path,
                                         const Tokenizer& tokenizer) {
  const std::string text = EosToken(path);
  if (text.empty()) return {};
  const auto id = tokenizer.TokenToId(text);
  if (!id) {
    throw Error("{}: `eos_token` {} is not in tokenizer.json", path,
                Quote(text));
  }
  return {*id};
}

}  // namespace

EosIds ReadEosIds(const std::string& directory, const Tokenizer& tokenizer) {
  Reader reader(tokenizer.vocab_size());
  const std::string generation_path = directory + "/generation_config.json";
  const std::string config_path = directory + "/config.json";
  const json generation = ReadIfThere(generation_path);
  const json config = ReadIfThere(config_path);
  std::vector<int32_t>& ids = reader.result.ids;
  if (!reader.Read(generation, generation_path + ": `") &&
      !ReadConfig(config, config_path, reader)) {
    ids = IdOfTokenizerConfig(directory + "/tokenizer_config.json", tokenizer);
  }
  reader.ReadOthers(generation, generation_path + ": `");
  reader.ReadOthers(config, config_path + ": `");
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return std::move(reader.result);
}

std::optional<int32_t> EosOfTokenizerConfig(const std::string& directory,
                                            const Tokenizer& tokenizer) {
  const std::string text = EosToken(directory + "/tokenizer_config.json");
  return text.empty() ? std::nullopt : tokenizer.TokenToId(text);
}

}  // namespace verify_tflite
