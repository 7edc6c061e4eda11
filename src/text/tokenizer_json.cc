#include "text/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/no_file.h"
#include "base/utf8.h"

namespace verify_tflite {
namespace {

using nlohmann::json;

// The library gives up below 128; real files stay under 10.
constexpr int kMaxDepth = 100;

enum class Kind { kNull, kBool, kInteger, kFloat, kString, kObject, kArray };

const char* Name(Kind kind) {
  constexpr std::array kNames = {"null",     "a boolean", "an integer",
                                 "a number", "a string",  "an object",
                                 "an array"};
  return kNames[static_cast<size_t>(kind)];
}

template <typename List>
bool IsIn(std::string_view word, const List& list) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

// An unknown section stops the library (seen with litert-lm-api 0.18.1).
constexpr std::string_view kSections[] = {
    "version",       "truncation",     "padding", "added_tokens", "normalizer",
    "pre_tokenizer", "post_processor", "decoder", "model"};
constexpr std::string_view kModelTypes[] = {"BPE", "Unigram", "WordLevel",
                                            "WordPiece"};
constexpr std::string_view kModelStrings[] = {
    "unk_token", "continuing_subword_prefix", "end_of_word_suffix"};
constexpr std::string_view kModelFlags[] = {"fuse_unk", "byte_fallback",
                                            "ignore_merges"};
constexpr std::string_view kAddedTokenFields[] = {
    "id",     "content",    "single_word", "lstrip",
    "rstrip", "normalized", "special"};

// Follows the parser; depth_ counts the open objects and arrays, and section_,
// field_ and item_ name where in the first three levels it stands.
class Checker : public json::json_sax_t {
 public:
  explicit Checker(const std::string& path) : path_(path) {}

  TokenizerJson Finish() {
    if (!has_model_) Fail("has no section `model`: it is not a tokenizer");
    CheckModel();
    return result_;
  }

  bool null() override { return Value(Kind::kNull); }
  bool boolean(bool value) override {
    if (depth_ == 2 && InModel("ignore_merges")) result_.ignores_merges = value;
    return Value(Kind::kBool);
  }
  bool number_integer(number_integer_t value) override {
    return Integer(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
    return Integer(static_cast<int64_t>(std::min<uint64_t>(value, kMax)));
  }
  bool number_float(number_float_t, const string_t&) override {
    return Value(Kind::kFloat);
  }
  bool string(string_t& value) override { return String(value); }
  bool binary(binary_t&) override { return false; }  // not in JSON text

  bool start_object(size_t) override { return Open(Kind::kObject); }
  bool start_array(size_t) override { return Open(Kind::kArray); }
  bool end_object() override {
    --depth_;
    if (depth_ == 2 && section_ == "added_tokens") CheckAddedToken();
    return true;
  }
  bool end_array() override {
    --depth_;
    if (depth_ == 3 && InPair()) CheckPair();
    return true;
  }

  bool key(string_t& name) override {
    if (depth_ == 1) {
      section_ = name;
      if (!IsIn(name, kSections)) {
        Fail("has a section {} that the tokenizer library does not know",
             Quote(name));
      }
    } else if (depth_ == 2) {
      field_ = name;
    } else if (depth_ == 3) {
      item_ = name;
    }
    return true;
  }

  bool parse_error(size_t, const std::string&,
                   const nlohmann::detail::exception& e) override {
    Fail("is not valid JSON: {}", e.what());
  }

 private:
  template <typename... Args>
  [[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) {
    throw Error("{}: {}", path_,
                fmt::format(format, std::forward<Args>(args)...));
  }

  bool InModel(std::string_view field) const {
    return section_ == "model" && field_ == field;
  }
  // Inside [token, score] of a Unigram vocabulary or [left, right] of merges.
  bool InPair() const {
    return (InModel("vocab") && vocab_ == Kind::kArray) || InModel("merges");
  }

  bool Open(Kind kind) {
    Value(kind);
    if (++depth_ > kMaxDepth) {
      Fail("is nested deeper than {} levels", kMaxDepth);
    }
    return true;
  }

  bool String(const std::string& value) {
    if (depth_ == 1 && section_ == "version" && value != "1.0") {
      Fail("is of version {}, expected \"1.0\"", Quote(value));
    }
    if (depth_ == 2 && InModel("type")) type_ = value;
    if (depth_ == 2 && InModel("unk_token")) result_.unk_token = value;
    if (depth_ == 3 && InModel("merges") &&
        std::count(value.begin(), value.end(), ' ') != 1) {
      Fail("has the merge {}: expected two tokens with a space between",
           Quote(value));
    }
    return Value(Kind::kString);
  }

  bool Integer(int64_t value) {
    if ((depth_ == 3 && InModel("vocab")) ||
        (depth_ == 3 && section_ == "added_tokens" && item_ == "id")) {
      // Ids are u32 there and int32_t here.
      if (value < 0 || value > std::numeric_limits<int32_t>::max()) {
        Fail("has the token id {}, which is out of range", value);
      }
      result_.max_id = std::max(result_.max_id, value);
    }
    if (depth_ == 2 && InModel("unk_id")) unk_id_ = value;
    return Value(Kind::kInteger);
  }

  // Every value passes here, objects and arrays before they are entered.
  bool Value(Kind kind) {
    switch (depth_) {
      case 0:
        Expect(kind == Kind::kObject, "the file", "an object", kind);
        break;
      case 1:
        CheckSection(kind);
        break;
      case 2:
        if (section_ == "added_tokens") {
          Expect(kind == Kind::kObject, "an added token", "an object", kind);
        } else if (section_ == "model") {
          CheckModelField(kind);
        }
        break;
      case 3:
        CheckItem(kind);
        break;
      case 4:
        if (InPair()) CheckPairMember(kind);
        break;
    }
    return true;
  }

  void Expect(bool condition, std::string_view what, std::string_view expected,
              Kind found) {
    if (!condition) {
      Fail("{} is {}, expected {}: it is not a tokenizer", what, Name(found),
           expected);
    }
  }

  void CheckSection(Kind kind) {
    if (section_ == "model") {
      Expect(kind == Kind::kObject, "`model`", "an object", kind);
      has_model_ = true;
    } else if (section_ == "version") {
      Expect(kind == Kind::kString, "`version`", "a string", kind);
    } else if (section_ == "added_tokens") {
      Expect(kind == Kind::kArray, "`added_tokens`", "an array", kind);
    } else {
      Expect(kind == Kind::kNull || kind == Kind::kObject, "`" + section_ + "`",
             "an object or null", kind);
      if (section_ == "truncation") result_.truncates = kind != Kind::kNull;
      if (section_ == "padding") result_.pads = kind != Kind::kNull;
    }
  }

  void CheckModelField(Kind kind) {
    if (field_ == "type") {
      Expect(kind == Kind::kString, "`type` of the model", "a string", kind);
    } else if (field_ == "vocab") {
      Expect(kind == Kind::kObject || kind == Kind::kArray, "`vocab`",
             "an object or an array", kind);
      vocab_ = kind;
    } else if (field_ == "merges") {
      Expect(kind == Kind::kArray, "`merges`", "an array", kind);
      has_merges_ = true;
    } else if (IsIn(field_, kModelStrings)) {
      Expect(kind == Kind::kString || kind == Kind::kNull, "`" + field_ + "`",
             "a string or null", kind);
    } else if (IsIn(field_, kModelFlags)) {
      Expect(kind == Kind::kBool || kind == Kind::kNull, "`" + field_ + "`",
             "a boolean or null", kind);
    }
  }

  void CheckItem(Kind kind) {
    if (InModel("vocab") && vocab_ == Kind::kObject) {
      Expect(kind == Kind::kInteger, "a token id in `vocab`", "an integer",
             kind);
    } else if (InModel("vocab")) {
      Expect(kind == Kind::kArray, "an entry of `vocab`", "an array", kind);
      result_.max_id = std::max(result_.max_id, unigram_size_);
      ++unigram_size_;
      pair_size_ = 0;
    } else if (InModel("merges")) {
      Expect(kind == Kind::kString || kind == Kind::kArray,
             "an entry of `merges`", "a string or an array", kind);
      pair_size_ = 0;
    } else if (section_ == "added_tokens") {
      CheckAddedTokenField(kind);
    }
  }

  void CheckPairMember(Kind kind) {
    if (InModel("vocab") && pair_size_ == 1) {
      Expect(kind == Kind::kFloat || kind == Kind::kInteger,
             "a score in `vocab`", "a number", kind);
    } else {
      Expect(kind == Kind::kString, "a token in `" + field_ + "`", "a string",
             kind);
    }
    ++pair_size_;
  }

  void CheckPair() {
    if (pair_size_ != 2) {
      Fail("an entry of `{}` has {} members, expected 2", field_, pair_size_);
    }
  }

  void CheckAddedTokenField(Kind kind) {
    const auto* field = std::find(std::begin(kAddedTokenFields),
                                  std::end(kAddedTokenFields), item_);
    if (field == std::end(kAddedTokenFields)) return;
    const Kind expected = item_ == "id"        ? Kind::kInteger
                          : item_ == "content" ? Kind::kString
                                               : Kind::kBool;
    Expect(kind == expected, "`" + item_ + "` of an added token",
           Name(expected), kind);
    fields_seen_ |= 1u << (field - std::begin(kAddedTokenFields));
  }

  void CheckAddedToken() {
    for (size_t i = 0; i < std::size(kAddedTokenFields); ++i) {
      if ((fields_seen_ >> i & 1) == 0) {
        Fail("an added token has no `{}`", kAddedTokenFields[i]);
      }
    }
    fields_seen_ = 0;
  }

  void CheckModel() {
    // Old files name no type; the library then goes by the fields, as here.
    const bool array = vocab_ == Kind::kArray;
    if (type_.empty()) {
      type_ = has_merges_ ? "BPE" : array ? "Unigram" : "WordLevel";
    }
    if (!IsIn(type_, kModelTypes)) {
      Fail("the model is of type {}, expected one of {}", Quote(type_),
           fmt::join(kModelTypes, ", "));
    }
    if (vocab_ == Kind::kNull) Fail("the model has no `vocab`");
    if ((type_ == "Unigram") != array) {
      Fail("`vocab` of the {} model is {}", type_, Name(vocab_));
    }
    if (type_ == "BPE" && !has_merges_) Fail("the BPE model has no `merges`");
    if (unk_id_ >= 0 && type_ == "Unigram" && unk_id_ >= unigram_size_) {
      Fail("`unk_id` is {} but `vocab` has {} tokens", unk_id_, unigram_size_);
    }
  }

  const std::string& path_;
  TokenizerJson result_;
  int depth_ = 0;
  std::string section_;
  std::string field_;
  std::string item_;
  bool has_model_ = false;
  bool has_merges_ = false;
  std::string type_;
  Kind vocab_ = Kind::kNull;
  int64_t unigram_size_ = 0;
  int64_t unk_id_ = -1;
  int pair_size_ = 0;
  unsigned fields_seen_ = 0;
};

}  // namespace

TokenizerJson CheckTokenizerJson(std::string_view text,
                                 const std::string& path) {
  RefuseNoFile(text, path);
  // The parser here would pass over a byte order mark, the library does not.
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw Error("{}: starts with a byte order mark, expected plain JSON", path);
  }
  // The parser would take this for the end of the file.
  if (text.find('\0') != std::string_view::npos) {
    throw Error("{}: holds a zero byte: it is not JSON", path);
  }
  Checker checker(path);
  json::sax_parse(text, &checker);
  return checker.Finish();
}

std::string WithoutTruncationAndPadding(std::string_view text) {
  json value = json::parse(text);
  value["truncation"] = nullptr;
  value["padding"] = nullptr;
  return value.dump();
}

}  // namespace verify_tflite
