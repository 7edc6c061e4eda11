#include "report/json_reader.h"

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "report/json.h"
#include "result/fields.h"

namespace verify_tflite {
namespace {

using Json = nlohmann::json;

// Parsed JSON takes about ten times the file's size in memory; a result of
// 100,000 positions is 50 MB.
constexpr size_t kMaxResultBytes = size_t{512} << 20;

// A value with its place, for messages.
class Node {
 public:
  Node(const Json& json, std::string place)
      : json_(&json), place_(std::move(place)) {}

  Node operator[](std::string_view key) const {
    auto found = Find(key);
    if (!found) throw Error("{}: \"{}\" is missing", place_, key);
    return *std::move(found);
  }

  std::optional<Node> Find(std::string_view key) const {
    if (!json_->is_object()) Refuse("an object");
    const auto at = json_->find(key);
    if (at == json_->end()) return std::nullopt;
    return Node(*at, fmt::format("{}.{}", place_, key));
  }

  std::vector<Node> Items() const {
    if (!json_->is_array()) Refuse("a list");
    std::vector<Node> items;
    items.reserve(json_->size());
    for (size_t i = 0; i < json_->size(); ++i) {
      items.emplace_back((*json_)[i], place_ + "[" + std::to_string(i) + "]");
    }
    return items;
  }

  bool IsNull() const { return json_->is_null(); }

  bool Bool() const {
    if (!json_->is_boolean()) Refuse("true or false");
    return json_->get<bool>();
  }

  std::string Text() const {
    if (!json_->is_string()) Refuse("a string");
    return json_->get<std::string>();
  }

  // A whole number from `low` to `high`.
  int64_t Whole(int64_t low = 0, int64_t high = kMaxCount) const {
    const bool fits = json_->is_number_unsigned()
                          ? json_->get<uint64_t>() <= INT64_MAX
                          : json_->is_number_integer();
    const int64_t value = fits ? json_->get<int64_t>() : 0;
    if (!fits || value < low || value > high) {
      Refuse(fmt::format("a whole number from {} to {}", low, high));
    }
    return value;
  }

  double Number() const {
    if (!json_->is_number()) Refuse("a number");
    return json_->get<double>();
  }

  // What does not exist is null in the file.
  double NumberOr(double missing) const {
    return IsNull() ? missing : Number();
  }
  double NumberOrNan() const {
    return NumberOr(std::numeric_limits<double>::quiet_NaN());
  }

  [[noreturn]] void Refuse(const std::string& expected) const {
    std::string found =
        json_->dump(-1, ' ', false, Json::error_handler_t::replace);
    constexpr size_t kShown = 40;
    if (found.size() > kShown) {
      found = ReplaceInvalidUtf8(found.substr(0, kShown)) + "…";
    }
    throw Error("{}: expected {}, found {}", place_, expected, found);
  }

  // Adds this value's place to what is wrong with it.
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error("{}: {}", place_, what);
  }

 private:
  const Json* json_;
  std::string place_;
};

void Read(const Node& node, const Field&, bool& value) { value = node.Bool(); }

void Read(const Node& node, const Field& field, int64_t& value) {
  value = node.Whole(field.low(), field.high());
}

void Read(const Node& node, const Field& field, int32_t& value) {
  constexpr std::numeric_limits<int32_t> kInt;
  const int64_t low = field.any() ? kInt.min() : field.low();
  const int64_t high = field.any() ? kInt.max() : field.high();
  value = static_cast<int32_t>(node.Whole(low, high));
}

void Read(const Node& node, const Field& field, double& value) {
  value = field.real() ? node.Number() : node.NumberOrNan();
  if (field.positive() && !(value > 0)) node.Refuse("a positive number");
  if (value < field.least()) node.Refuse("a number that is not negative");
}

void Read(const Node& node, const Field&, std::string& value) {
  value = node.Text();
}

void Read(const Node& node, const Field&, Outcome& value) {
  const std::string name = node.Text();
  for (const Outcome outcome : kAllOutcomes) {
    value = outcome;
    if (name == NameOf(outcome)) return;
  }
  node.Refuse("an outcome");
}

void Read(const Node& node, const Field&, Recipe& value) {
  const std::string name = node.Text();
  for (const Recipe recipe : kAllRecipes) {
    value = recipe;
    if (name == NameOf(recipe)) return;
  }
  node.Refuse("a recipe");
}

void Read(const Node& node, const Field&, FindingId& value) {
  const auto id = ParseFindingId(node.Text());
  if (!id) node.Refuse("the name of a finding (verify_tflite explain)");
  value = *id;
}

std::vector<Node> ReadTwo(const Node& node) {
  std::vector<Node> two = node.Items();
  if (two.size() != 2) node.Refuse("a list of two numbers");
  return two;
}

void Read(const Node& node, const Field&, Interval& value) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<Node> ends = ReadTwo(node);
  value = {ends[0].NumberOr(-kInfinity), ends[1].NumberOr(kInfinity)};
}

void Read(const Node& node, const Field& field,
          std::pair<int64_t, int64_t>& value) {
  const std::vector<Node> ends = ReadTwo(node);
  Read(ends[0], field, value.first);
  Read(ends[1], field, value.second);
}

template <typename T>
void Read(const Node& node, const Field& field, T& value);

template <typename T>
void Read(const Node& node, const Field& field, std::optional<T>& value) {
  value.reset();
  if (node.IsNull() && !field.left_out()) return;
  Read(node, field, value.emplace());
}

template <typename T>
void Read(const Node& node, const Field& field, std::vector<T>& values) {
  values.clear();
  for (const Node& item : node.Items()) {
    Read(item, field, values.emplace_back());
  }
}

// A visitor of result/fields.h.
class JsonReader {
 public:
  explicit JsonReader(Node node) : node_(std::move(node)) {}

  template <typename T>
  void operator()(const Field& field, T& value) {
    const auto found = node_.Find(field.key());
    if (!found && (field.newer() || field.left_out())) return;
    if (found && found->IsNull() && field.newer()) return;
    Read(node_[field.key()], field, value);
  }
  template <typename T>
  void Derived(const Field&, const T&) {}
  void Choice(const Field& field, bool& flag, const char*, const char* yes) {
    std::string word;
    (*this)(field, word);
    flag = word == yes;
  }
  template <typename Map>
  void Pairs(const Field& field, Map& map, const char* key, const char* value) {
    for (const Node& item : node_[field.key()].Items()) {
      std::string first;
      typename Map::value_type::second_type second;
      Read(item[key], field, first);
      Read(item[value], field, second);
      map.insert(map.end(), {std::move(first), std::move(second)});
    }
  }
  bool When(bool condition) { return condition; }
  void Require(std::string_view key, bool holds, std::string_view what) {
    if (!holds) node_[key].Fail(std::string(what));
  }

 private:
  Node node_;
};

template <typename T>
void Read(const Node& node, const Field&, T& value) {
  JsonReader reader(node);
  VisitFields(reader, value);
}

void CheckVersion(const Json& json, const std::string& origin) {
  const auto version = json.find("schema_version");
  if (version == json.end()) {
    throw Error(
        "{}: no schema_version in it: this is no result of verify_tflite "
        "--json",
        origin);
  }
  if (*version == kJsonSchemaVersion) return;
  throw Error(
      "{}: schema_version is {}, this program reads {}; verify the model again "
      "with this version",
      origin, version->is_number() ? version->dump() : "no number",
      kJsonSchemaVersion);
}

}  // namespace

Verification ReadJsonReport(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxResultBytes) {
    throw Error("{}: {} bytes; results are read up to {}", origin, text.size(),
                kMaxResultBytes);
  }
  const Json json = ParseJsonObject(text, origin);
  CheckVersion(json, origin);
  Verification v;
  // Versions before let nothing explain an excess of the tolerance.
  v.settings.tolerance_given = true;
  JsonReader reader(Node(json, origin + ": $"));
  VisitFields(reader, v);
  return v;
}

Verification ReadJsonReportFile(const std::string& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return ReadJsonReport(
      {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace verify_tflite
