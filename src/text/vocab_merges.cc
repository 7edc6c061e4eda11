#include "text/vocab_merges.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/no_file.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

constexpr std::string_view kHowToSave =
    "Save the tokenizer as tokenizer.json: "
    "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)";

// Special tokens by the names under which transformers knows them, in the order
// in which it adds those that the vocabulary lacks.
constexpr const char* kNamedTokens[] = {"bos_token", "eos_token", "unk_token",
                                        "sep_token", "pad_token", "cls_token",
                                        "mask_token"};

// What distinguishes the two classes of transformers: how text is split before
// the merges, and the named tokens they have without being told.
struct Family {
  std::string_view name;  // of tokenizer_class, without "Fast"
  std::vector<std::string_view> defaults;
};
const Family kFamilies[] = {
    {"GPT2Tokenizer", {"bos_token", "eos_token", "unk_token"}},
    {"Qwen2Tokenizer", {"eos_token", "unk_token", "pad_token"}}};
constexpr const char* kDefaultToken = "<|endoftext|>";

// The split of Qwen2Tokenizer (tokenization_qwen2.py).
constexpr const char* kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

json ReadIfThere(const std::string& path) {
  return FileExists(path) ? ReadJsonFile(path) : json::object();
}

json ByteLevel(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

class Maker {
 public:
  explicit Maker(const std::string& directory)
      : directory_(directory),
        config_path_(directory + "/tokenizer_config.json") {
    for (const char* name :
         {"/vocab.json", "/merges.txt", "/tokenizer_config.json"}) {
      if (FileExists(directory + name)) continue;
      throw Error(
          "{}{}: missing: without tokenizer.json the tokenizer is read from "
          "vocab.json, merges.txt and tokenizer_config.json. {}",
          directory, name, kHowToSave);
    }
    config_ = ReadJsonFile(config_path_);
    family_ = &GetFamily();
  }

  std::string Make() {
    ReadVocabulary();
    json model = {{"type", "BPE"},
                  {"continuing_subword_prefix", ""},
                  {"end_of_word_suffix", ""},
                  {"fuse_unk", false},
                  {"byte_fallback", false},
                  {"merges", ReadMerges()}};
    ReadAddedTokens();
    const bool prefix = Flag("add_prefix_space");
    json whole = {{"version", "1.0"},
                  {"truncation", nullptr},
                  {"padding", nullptr},
                  {"added_tokens", std::move(added_)},
                  {"normalizer", nullptr},
                  {"pre_tokenizer", ByteLevel(prefix, true)},
                  {"post_processor", PostProcessor()},
                  {"decoder", ByteLevel(true, true)}};
    if (family_->name == "Qwen2Tokenizer") {
      whole["normalizer"] = {{"type", "NFC"}};
      const json split = {{"type", "Split"},
                          {"pattern", {{"Regex", kQwen2Split}}},
                          {"behavior", "Isolated"},
                          {"invert", false}};
      whole["pre_tokenizer"] = {
          {"type", "Sequence"},
          {"pretokenizers", json::array({split, ByteLevel(prefix, false)})}};
    }
    model["vocab"] = std::move(vocab_);
    whole["model"] = std::move(model);
    return whole.dump();
  }

 private:
  const Family& GetFamily() const {
    std::string name = config_.value("tokenizer_class", json("")).is_string()
                           ? config_.value("tokenizer_class", "")
                           : "";
    if (name.ends_with("Fast")) name.resize(name.size() - 4);
    // Whatever such a checkpoint says (MODELS_WITH_INCORRECT_HUB_TOKENIZER_
    // CLASS of tokenization_auto.py).
    const json model = ReadIfThere(directory_ + "/config.json");
    if (model.value("model_type", json()) == "qwen2") name = "Qwen2Tokenizer";
    for (const Family& family : kFamilies) {
      if (family.name == name) return family;
    }
    throw Error(
        "{}: tokenizer_class {} is not supported with vocab.json and "
        "merges.txt; supported: GPT2Tokenizer, Qwen2Tokenizer. {}",
        config_path_, name.empty() ? "(none)" : Quote(name), kHowToSave);
  }

  bool Flag(const char* key) const {
    const auto value = config_.find(key);
    if (value == config_.end() || value->is_null()) return false;
    if (!value->is_boolean()) {
      throw Error("{}: {} is a JSON {}, expected true or false", config_path_,
                  key, value->type_name());
    }
    return value->get<bool>();
  }

  void ReadVocabulary() { vocab_ = ReadJsonFile(directory_ + "/vocab.json"); }

  // Lines of two tokens, behind one with the version. The library ends the
  // process over a merge of tokens that the vocabulary lacks.
  json ReadMerges() const {
    const std::string path = directory_ + "/merges.txt";
    const MappedFile file(path);
    RefuseNoFile(file.bytes(), path);
    std::string_view rest(reinterpret_cast<const char*>(file.bytes().data()),
                          file.bytes().size());
    json merges = json::array();
    for (int64_t number = 1; !rest.empty(); ++number) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      std::string_view line = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.starts_with("#version")) continue;
      const size_t space = line.find(' ');
      const std::string left(line.substr(0, space));
      const std::string right(
          space == std::string_view::npos ? "" : line.substr(space + 1));
      if (left.empty() || right.empty() ||
          right.find(' ') != std::string::npos) {
        throw Error("{}: line {} is {}, expected two tokens", path, number,
                    Quote(ReplaceInvalidUtf8(line.substr(0, 80))));
      }
      for (const std::string& token : {left, right, left + right}) {
        if (vocab_.contains(token)) continue;
        throw Error(
            "{}: line {} needs the token {}, which is not in vocab.json", path,
            number, Quote(ReplaceInvalidUtf8(token)));
      }
      merges.push_back(std::string(line));
    }
    return merges;
  }

  // A token as text or as an object with its flags, as one of `added_tokens`;
  // null where there is none.
  json Token(const json& value, const std::string& path) const {
    if (value.is_null()) return nullptr;
    json token = {{"single_word", false}, {"lstrip", false},
                  {"rstrip", false},      {"normalized", false},
                  {"special", true},      {"content", value}};
    if (value.is_object()) {
      token["content"] = value.value("content", json());
      for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
        token[flag] = value.value(flag, json(false));
      }
      token["special"] = value.value("special", json(false));
      token["normalized"] =
          value.value("normalized", json(token["special"] != json(true)));
    }
    if (!token["content"].is_string() || token["content"] == "") {
      throw Error("{}: has {} where a token is expected", path,
                  value.dump(-1, ' ', false, json::error_handler_t::replace));
    }
    return token;
  }

  // Gives the token the id that the library gives it (AddedVocabulary): that of
  // the vocabulary, else the next.
  void Add(json token) {
    const std::string content = token["content"];
    if (ids_.contains(content)) return;
    const auto known = vocab_.find(content);
    if (known != vocab_.end()) {
      token["id"] = *known;
      if (known->is_number_integer()) {
        next_ = std::max(next_, known->get<int64_t>() + 1);
      }
    } else {
      next_ = std::max(next_, static_cast<int64_t>(vocab_.size()));
      token["id"] = next_++;
    }
    ids_[content] = token["id"];
    added_.push_back(std::move(token));
  }

  // As PreTrainedTokenizerBase._from_pretrained collects them.
  void ReadAddedTokens() {
    if (Flag("split_special_tokens")) {
      throw Error("{}: split_special_tokens is not supported. {}", config_path_,
                  kHowToSave);
    }
    std::map<std::string, json> named;
    for (const std::string_view key : family_->defaults) {
      named[std::string(key)] = Token(kDefaultToken, config_path_);
    }
    ReadNamed(config_, config_path_, named);
    json extra = Extra(config_, json::array());
    std::map<int64_t, json> by_id;
    const auto decoder = config_.find("added_tokens_decoder");
    if (decoder != config_.end()) {
      for (const auto& [key, value] : decoder->items()) {
        by_id[Number(key)] = Token(value, config_path_);
      }
    } else {
      const std::string path = directory_ + "/special_tokens_map.json";
      const json map = ReadIfThere(path);
      ReadNamed(map, path, named);
      extra = Extra(map, std::move(extra));
      ReadOlderAddedTokens(named, extra, by_id);
    }
    // An added token that is named, too, is special; its other flags count.
    for (auto& [id, token] : by_id) {
      for (const auto& [name, other] : named) {
        if (!other.is_null() && other["content"] == token["content"]) {
          token["special"] = true;
        }
      }
      Add(token);
    }
    for (const char* name : kNamedTokens) {
      const auto token = named.find(name);
      if (token != named.end() && !token->second.is_null()) Add(token->second);
      if (token != named.end()) named_[name] = token->second;
    }
    AddOwn(named);
    for (const json& token : extra) Add(Token(token, config_path_));
  }

  // Of names that are the model's own. Those without an id get theirs in the
  // order in which they stand in the file, which is lost here.
  void AddOwn(const std::map<std::string, json>& named) {
    std::string without_id;
    for (const auto& [name, token] : named) {
      if (token.is_null() || ids_.contains(token["content"])) continue;
      if (!vocab_.contains(token["content"]) &&
          !std::exchange(without_id, name).empty()) {
        throw Error("{}: {} and others have no id in the files. {}",
                    config_path_, Quote(name), kHowToSave);
      }
      Add(token);
    }
  }

  void ReadNamed(const json& from, const std::string& path,
                 std::map<std::string, json>& named) const {
    for (const auto& [key, value] : from.items()) {
      if (!key.ends_with("_token")) continue;
      if (value.is_boolean()) continue;  // add_bos_token
      named[key] = Token(value, path);
      if (value.is_object()) named[key]["special"] = true;
    }
    const auto extra = from.find("extra_special_tokens");
    if (extra == from.end() || !extra->is_object()) return;
    for (const auto& [key, value] : extra->items()) {
      named[key] = Token(value, path);
    }
  }

  // Special tokens without a name.
  static json Extra(const json& from, json otherwise) {
    for (const char* key :
         {"extra_special_tokens", "additional_special_tokens"}) {
      const auto list = from.find(key);
      if (list != from.end() && list->is_array() && !list->empty())
        return *list;
    }
    return otherwise;
  }

  void ReadOlderAddedTokens(const std::map<std::string, json>& named,
                            const json& extra,
                            std::map<int64_t, json>& by_id) const {
    const std::string path = directory_ + "/added_tokens.json";
    const json tokens = ReadIfThere(path);
    for (const auto& [content, id] : tokens.items()) {
      if (!id.is_number_integer()) {
        throw Error("{}: the id of {} is a JSON {}", path, Quote(content),
                    id.type_name());
      }
      json token = Token(content, path);
      bool special =
          std::any_of(named.begin(), named.end(), [&](const auto& entry) {
            return !entry.second.is_null() &&
                   entry.second["content"] == content;
          });
      for (const json& other : extra) {
        special |= Token(other, path)["content"] == content;
      }
      token["special"] = special;
      token["normalized"] = !special;
      by_id[id.get<int64_t>()] = std::move(token);
    }
  }

  int64_t Number(const std::string& text) const {
    int64_t number = -1;
    const char* end = text.data() + text.size();
    if (std::from_chars(text.data(), end, number).ptr != end || number < 0) {
      throw Error("{}: added_tokens_decoder has the id {}", config_path_,
                  Quote(text));
    }
    return number;
  }

  // BOS and EOS around a text, where the configuration asks for them.
  json PostProcessor() const {
    json single = json::array(), pair = json::array();
    json special = json::object();
    const auto put = [&](const char* name, json& sequence, int type) {
      const auto token = named_.find(name);
      if (!Flag(("add_" + std::string(name)).c_str()) ||
          token == named_.end() || token->second.is_null()) {
        return;
      }
      const std::string content = token->second["content"];
      sequence.push_back(
          {{"SpecialToken", {{"id", content}, {"type_id", type}}}});
      special[content] = {{"id", content},
                          {"ids", json::array({ids_.at(content)})},
                          {"tokens", json::array({content})}};
    };
    const auto text = [](const char* id, int type) {
      return json{{"Sequence", {{"id", id}, {"type_id", type}}}};
    };
    put("bos_token", single, 0);
    single.push_back(text("A", 0));
    put("eos_token", single, 0);
    pair = single;
    put("bos_token", pair, 1);
    pair.push_back(text("B", 1));
    put("eos_token", pair, 1);
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", pair},
            {"special_tokens", special}};
  }

  const std::string& directory_;
  std::string config_path_;
  json config_;
  const Family* family_ = nullptr;
  json vocab_;
  json added_ = json::array();
  std::map<std::string, json> ids_;    // of added tokens
  std::map<std::string, json> named_;  // of kNamedTokens, null where unset
  int64_t next_ = 0;
};

}  // namespace

bool HasVocabOrMerges(const std::string& directory) {
  return FileExists(directory + "/vocab.json") || FileExists(directory + "/merges.txt");
}

std::string TokenizerJsonOfVocabAndMerges(const std::string& directory) {
  return Maker(directory).Make();
}

}  // namespace verify_tflite
