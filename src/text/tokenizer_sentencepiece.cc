// tokenizer.model as transformers' tokenization_llama.py and
// tokenization_gemma.py (release 4, the tokenizers written in Python) run it.
#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/no_file.h"
#include "base/utf8.h"
#include "text/sentencepiece_library.h"
#include "text/tokenizer_impl.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// What distinguishes the two classes of transformers.
struct TokenizerClass {
  std::string_view name;  // of tokenizer_class, without "Fast"
  const char* bos;
  const char* eos;
  bool has_legacy;  // knows `legacy` and `add_prefix_space`
};
constexpr TokenizerClass kTokenizerClasses[] = {
    {"LlamaTokenizer", "<s>", "</s>", true},
    {"GemmaTokenizer", "<bos>", "<eos>", false}};

// Fields of a ModelProto read one after the other add to each other: the
// normalizer's (3) add_dummy_prefix (3) becomes false.
constexpr std::string_view kWithoutDummyPrefix("\x1a\x02\x18\x00", 4);

std::string ReadAll(const std::string& path) {
  const MappedFile file(path);
  RefuseNoFile(file.bytes(), path);
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

std::string ReplaceAll(std::string_view text, std::string_view from,
                       std::string_view to) {
  std::string result;
  for (size_t at = 0;;) {
    const size_t found = text.find(from, at);
    result += text.substr(at, found - at);
    if (found == std::string_view::npos) return result;
    result += to;
    at = found + from.size();
  }
}

// tokenizer_config.json, with messages that name it.
class Config {
 public:
  explicit Config(const std::string& directory)
      : path_(directory + "/tokenizer_config.json") {
    if (!FileExists(path_)) {
      throw Error(
          "{}: missing: tokenizer.model alone does not say how it is used; "
          "expected tokenizer.json or this file",
          path_);
    }
    json_ = ReadJsonFile(path_);
  }

  const std::string& path() const { return path_; }
  const json* Find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  bool Flag(const char* key, bool otherwise) const {
    const json* value = Find(key);
    if (!value) return otherwise;
    if (!value->is_boolean()) {
      throw Error("{}: {} is a JSON {}, expected true or false", path_, key,
                  value->type_name());
    }
    return value->get<bool>();
  }

  // A token as text or as {"content": text, …}; empty where there is none.
  std::string Token(const json* value, const std::string& what) const {
    if (!value) return {};
    if (value->is_object()) {
      const auto content = value->find("content");
      value = content == value->end() ? value : &*content;
    }
    if (!value->is_string()) {
      throw Error("{}: {} is a JSON {}, expected a token", path_, what,
                  value->type_name());
    }
    return value->get<std::string>();
  }

  const TokenizerClass& GetFamily() const {
    std::string name = Token(Find("tokenizer_class"), "tokenizer_class");
    if (name.ends_with("Fast")) name.resize(name.size() - 4);
    for (const TokenizerClass& family : kTokenizerClasses) {
      if (family.name == name) return family;
    }
    throw Error(
        "{}: tokenizer_class {} is not supported with tokenizer.model; "
        "supported: LlamaTokenizer, GemmaTokenizer. Save the tokenizer again "
        "as tokenizer.json: AutoTokenizer.from_pretrained(…)"
        ".save_pretrained(DIR)",
        path_, Quote(name));
  }

 private:
  std::string path_;
  json json_;
};

// A part of the text: an added token, or text between them.
struct Part {
  std::string_view text;
  std::optional<int32_t> id;
};

class SentencePieceTokenizer final : public Tokenizer::Impl {
 public:
  explicit SentencePieceTokenizer(const std::string& directory) {
    const std::string path = directory + "/tokenizer.model";
    const Config config(directory);
    const TokenizerClass& family = config.GetFamily();
    legacy_ = !family.has_legacy || config.Flag("legacy", true);
    add_prefix_space_ = config.Flag("add_prefix_space", true);
    std::string proto = ReadAll(path);
    if (!legacy_) proto += kWithoutDummyPrefix;
    model_ = std::make_unique<SentencePieceModel>(proto, path);
    adds_prefix_ = family.has_legacy;
    vocab_size_ = model_->size();
    ReadAddedTokens(config, directory);
    ReadSpecialTokens(config, family);
  }

  std::vector<int32_t> Encode(std::string_view text,
                              bool add_special_tokens) const override {
    std::vector<int32_t> ids;
    if (add_special_tokens && add_bos_) ids.push_back(bos_);
    const size_t first = ids.size();
    std::string prefixed;
    if (!legacy_ && !text.empty()) {
      prefixed = (add_prefix_space_ ? std::string(kSentencePieceSpace)
                                    : std::string()) +
                 ReplaceAll(text, kSentencePieceSpace, " ");
      text = prefixed;
    }
    for (const Part& part : Split(text)) {
      if (part.id) {
        ids.push_back(*part.id);
      } else {
        const std::vector<int32_t> more = EncodePart(part.text);
        ids.insert(ids.end(), more.begin(), more.end());
      }
    }
    // The prefix is for text, not for a special token that begins it.
    if (!legacy_ && ids.size() > first + 1 &&
        ids[first] == PieceToId(kSentencePieceSpace) &&
        special_.contains(ids[first + 1])) {
      ids.erase(ids.begin() + static_cast<ptrdiff_t>(first));
    }
    if (add_special_tokens && add_eos_) ids.push_back(eos_);
    return ids;
  }

  // As the decoder of a Llama tokenizer.json: spaces, bytes, and without the
  // space that Encode put in front.
  std::string Decode(std::span<const int32_t> ids,
                     bool skip_special_tokens) const override {
    std::string text, bytes;
    const auto end_bytes = [&] {
      if (FindInvalidUtf8(bytes) == std::string_view::npos) {
        text += bytes;
      } else {
        for (size_t i = 0; i < bytes.size(); ++i) text += kReplacement;
      }
      bytes.clear();
    };
    for (const int32_t id : ids) {
      if (skip_special_tokens && special_.contains(id)) continue;
      if (id >= 0 && id < model_->size() && model_->IsByte(id)) {
        bytes += ByteOf(id);
        continue;
      }
      end_bytes();
      text += TextOf(id);
    }
    end_bytes();
    if (adds_prefix_ && add_prefix_space_ && text.starts_with(' ')) {
      text.erase(0, 1);
    }
    return text;
  }

  std::optional<int32_t> TokenToId(std::string_view token) const override {
    const auto added = added_.find(token);
    if (added != added_.end()) return added->second;
    return PieceToId(token);
  }

  int64_t vocab_size() const override { return vocab_size_; }

 private:
  // PieceToId gives the unknown piece for what is none.
  std::optional<int32_t> PieceToId(std::string_view piece) const {
    const int32_t id = model_->PieceToId(piece);
    if (id < 0 || id >= model_->size() || model_->Piece(id) != piece) {
      return std::nullopt;
    }
    return id;
  }

  char ByteOf(int32_t id) const {
    const std::string_view piece = model_->Piece(id);  // "<0x0A>"
    unsigned value = 0;
    if (piece.size() == 6) {
      std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
    }
    return static_cast<char>(value);
  }

  std::string TextOf(int32_t id) const {
    const auto added = added_text_.find(id);
    if (added != added_text_.end()) return added->second;
    if (id < 0 || id >= model_->size()) return {};
    return ReplaceAll(model_->Piece(id), kSentencePieceSpace, " ");
  }

  void Add(const std::string& token, int64_t id, bool special,
           const std::string& path) {
    if (token.empty() || id < 0 || id > INT32_MAX) {
      throw Error("{}: the added token {} has the id {}", path, Quote(token),
                  id);
    }
    const auto number = static_cast<int32_t>(id);
    const auto [it, is_new] = added_.emplace(token, number);
    if (!is_new && it->second != number) {
      throw Error("{}: the added token {} has two ids, {} and {}", path,
                  Quote(token), it->second, id);
    }
    added_text_[number] = token;
    if (special) special_.insert(number);
    vocab_size_ = std::max(vocab_size_, id + 1);
  }

  void ReadAddedTokens(const Config& config, const std::string& directory) {
    if (const json* tokens = config.Find("added_tokens_decoder")) {
      if (!tokens->is_object()) {
        throw Error("{}: added_tokens_decoder is no object", config.path());
      }
      for (const auto& [key, value] : tokens->items()) {
        int64_t id = -1;
        const auto end = key.data() + key.size();
        if (std::from_chars(key.data(), end, id).ptr != end) id = -1;
        const std::string token = config.Token(&value, "an added token");
        for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
          if (value.is_object() && value.value(flag, json()) == json(true)) {
            throw Error(
                "{}: the added token {} has {}, which is not supported with "
                "tokenizer.model: save the tokenizer as tokenizer.json",
                config.path(), Quote(token), flag);
          }
        }
        const bool special =
            value.is_object() && value.value("special", json()) == json(true);
        Add(token, id, special, config.path());
      }
    }
    const std::string path = directory + "/added_tokens.json";
    if (!FileExists(path)) return;
    const json tokens = ReadJsonFile(path);
    for (const auto& [token, id] : tokens.items()) {
      if (!id.is_number_integer()) {
        throw Error("{}: the id of {} is a JSON {}", path, Quote(token),
                    id.type_name());
      }
      Add(token, id.get<int64_t>(), false, path);
    }
  }

  // Named tokens are split out of the text like added ones.
  std::optional<int32_t> AddSpecial(const Config& config, const json* value,
                                    const std::string& what,
                                    const std::string& otherwise) {
    std::string token = config.Token(value, what);
    if (token.empty()) token = otherwise;
    if (token.empty()) return std::nullopt;
    const auto id = TokenToId(token);
    if (!id) {
      throw Error(
          "{}: {} is {}, which has no id in tokenizer.model, "
          "added_tokens_decoder and added_tokens.json",
          config.path(), what, Quote(token));
    }
    Add(token, *id, true, config.path());
    return id;
  }

  void ReadSpecialTokens(const Config& config, const TokenizerClass& family) {
    add_bos_ = config.Flag("add_bos_token", true);
    add_eos_ = config.Flag("add_eos_token", false);
    const auto bos =
        AddSpecial(config, config.Find("bos_token"), "bos_token", family.bos);
    const auto eos =
        AddSpecial(config, config.Find("eos_token"), "eos_token", family.eos);
    bos_ = *bos;
    eos_ = *eos;
    const auto unk =
        AddSpecial(config, config.Find("unk_token"), "unk_token", "<unk>");
    unk_ = added_text_[*unk];
    AddSpecial(config, config.Find("pad_token"), "pad_token", "");
    if (const json* more = config.Find("additional_special_tokens")) {
      for (const json& token : *more) {
        AddSpecial(config, &token, "an additional special token", "");
      }
    }
    unk_length_ = model_->Encode(unk_).size();
  }

  // At each place the longest added token, as transformers' Trie.
  std::vector<Part> Split(std::string_view text) const {
    std::vector<Part> parts;
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
      std::string_view token;
      std::optional<int32_t> id;
      for (const auto& [candidate, number] : added_) {
        if (candidate.size() > token.size() &&
            text.substr(at).starts_with(candidate)) {
          token = candidate;
          id = number;
        }
      }
      if (!id) {
        ++at;
        continue;
      }
      if (at > begin) parts.push_back({text.substr(begin, at - begin), {}});
      parts.push_back({token, id});
      at += token.size();
      begin = at;
    }
    if (begin < text.size()) parts.push_back({text.substr(begin), {}});
    return parts;
  }

  // Behind the unknown token a leading space is kept; then that token's own
  // pieces are taken away (LlamaTokenizer._tokenize).
  std::vector<int32_t> EncodePart(std::string_view text) const {
    if (legacy_ ||
        !(text.starts_with(kSentencePieceSpace) || text.starts_with(' '))) {
      return model_->Encode(text);
    }
    std::vector<int32_t> ids = model_->Encode(unk_ + std::string(text));
    if (ids.size() >= unk_length_) {
      ids.erase(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(unk_length_));
    }
    return ids;
  }

  std::unique_ptr<SentencePieceModel> model_;
  bool legacy_ = true;
  bool add_prefix_space_ = true;
  bool adds_prefix_ = true;
  bool add_bos_ = true;
  bool add_eos_ = false;
  int32_t bos_ = 0;
  int32_t eos_ = 0;
  std::string unk_;
  size_t unk_length_ = 0;
  int64_t vocab_size_ = 0;
  std::map<std::string, int32_t, std::less<>> added_;
  std::map<int32_t, std::string> added_text_;
  std::set<int32_t> special_;
};

}  // namespace

std::unique_ptr<Tokenizer::Impl> Tokenizer::Impl::OpenSentencePiece(
    const std::string& directory) {
  return std::make_unique<SentencePieceTokenizer>(directory);
}

}  // namespace verify_tflite
