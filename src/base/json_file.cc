#include "base/json_file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/no_file.h"

namespace verify_tflite {
namespace {

constexpr int kMaxDepth = 128;

using nlohmann::json;

// The words of Python's json that JSON lacks.
struct Word {
  std::string_view text;
  double value;
};
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::array kWords = {
    Word{"-Infinity", -kInfinity}, Word{"Infinity", kInfinity},
    Word{"NaN", std::numeric_limits<double>::quiet_NaN()}};

bool IsWordCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '+' || c == '-';
}

// Where each of kWords stands outside strings, by place.
std::vector<std::pair<size_t, const Word*>> FindWords(std::string_view text) {
  std::vector<std::pair<size_t, const Word*>> found;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') in_string = !in_string;
    if (in_string) {
      if (c == '\\') ++i;
      continue;
    }
    if (c != 'N' && c != 'I' && c != '-') continue;
    if (i > 0 && IsWordCharacter(text[i - 1])) continue;
    for (const Word& word : kWords) {
      if (!text.substr(i).starts_with(word.text)) continue;
      const size_t end = i + word.text.size();
      if (end < text.size() && IsWordCharacter(text[end])) break;
      found.emplace_back(i, &word);
      i = end - 1;
      break;
    }
  }
  return found;
}

// The string that stands for `word` while the parser reads: of its length, so
// that the places that messages name stay true.
std::string StandIn(const Word& word, char filling) {
  std::string text(word.text.size(), filling);
  text.front() = text.back() = '"';
  return text;
}

// A character of which no string of `text` consists alone as those that stand
// in do. Throws Error where all of them are taken.
char FindFilling(std::string_view text, const std::string& origin) {
  for (char c = 'a'; c <= 'z'; ++c) {
    const auto is_there = [&](const std::string& part) {
      return text.find(part) != std::string_view::npos;
    };
    if (is_there(fmt::format("\\u00{:02x}", c)) ||
        is_there(fmt::format("\\u00{:02X}", c)) ||
        std::ranges::any_of(kWords, [&](const Word& word) {
          return is_there(StandIn(word, c));
        })) {
      continue;
    }
    return c;
  }
  throw Error("{}: not valid JSON: NaN or Infinity among strings of one letter",
              origin);
}

// Reads as JSON what Python writes: the text with each of kWords replaced, and
// what then makes the strings the numbers again.
class PythonJson {
 public:
  PythonJson(std::string_view text, const std::string& origin) : text_(text) {
    const auto words = FindWords(text);
    if (words.empty()) return;
    filling_ = FindFilling(text, origin);
    replaced_ = text;
    for (const auto& [at, word] : words) {
      replaced_.replace(at, word->text.size(), StandIn(*word, filling_));
    }
    text_ = replaced_;
  }

  std::string_view text() const { return text_; }

  // The word that `value` stands for; null if none.
  const Word* Find(const json& value) const {
    if (filling_ == 0 || !value.is_string()) return nullptr;
    const auto& string = value.get_ref<const std::string&>();
    for (const Word& word : kWords) {
      if (string == std::string(word.text.size() - 2, filling_)) return &word;
    }
    return nullptr;
  }

 private:
  std::string_view text_;
  std::string replaced_;
  char filling_ = 0;
};

}  // namespace

nlohmann::json ParseJsonObject(std::string_view text,
                               const std::string& origin) {
  RefuseNoFile(text, origin);
  const PythonJson python(text, origin);
  bool too_deep = false;
  // Later code walks these values recursively, so depth is bounded here.
  const auto limit_depth = [&](int depth, nlohmann::json::parse_event_t event,
                               nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::value || event == Event::key) {
      const Word* word = python.Find(parsed);
      if (word != nullptr && event == Event::key) {
        throw Error("{}: not valid JSON: {} is no key", origin, word->text);
      }
      if (word != nullptr) parsed = word->value;
    }
    if (depth > kMaxDepth &&
        (event == Event::object_start || event == Event::array_start)) {
      too_deep = true;
      return false;
    }
    return true;
  };
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(python.text(), limit_depth);
  } catch (const nlohmann::json::exception& e) {
    throw Error("{}: not valid JSON: {}", origin, e.what());
  }
  if (too_deep) {
    throw Error("{}: JSON nested deeper than {} levels", origin, kMaxDepth);
  }
  if (!value.is_object()) {
    throw Error("{}: expected a JSON object, found {}", origin,
                value.type_name());
  }
  return value;
}

nlohmann::json ReadJsonFile(const std::string& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return ParseJsonObject(
      {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace verify_tflite
