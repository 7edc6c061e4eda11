// Writes parts of a result as JSON.
#ifndef VERIFY_TFLITE_REPORT_JSON_VALUE_H_
#define VERIFY_TFLITE_REPORT_JSON_VALUE_H_

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "result/fields.h"

namespace verify_tflite {

using OrderedJson = nlohmann::ordered_json;

// Structs become objects by their list of fields. NaN and infinity, which JSON
// does not have, become null. In text that is no UTF-8 (a token may end inside
// a character) U+FFFD replaces what is ill-formed, because nlohmann/json
// refuses it.
template <typename T>
OrderedJson ToJson(const T& value);

// A visitor of result/fields.h.
class JsonWriter {
 public:
  template <typename T>
  void operator()(const Field& field, const T& value) {
    if (field.left_out() && IsNone(value)) return;
    json_[std::string(field.key())] = ToJson(value);
  }
  template <typename T>
  void Derived(const Field& field, const T& value) {
    (*this)(field, value);
  }
  void Choice(const Field& field, bool flag, const char* no, const char* yes) {
    (*this)(field, std::string(flag ? yes : no));
  }
  template <typename Map>
  void Pairs(const Field& field, const Map& map, const char* key,
             const char* value) {
    OrderedJson list = OrderedJson::array();
    for (const auto& [first, second] : map) {
      list.push_back({{key, ToJson(first)}, {value, ToJson(second)}});
    }
    json_[std::string(field.key())] = std::move(list);
  }
  bool When(bool condition) { return condition; }
  void Require(std::string_view, bool, std::string_view) {}

  OrderedJson Take() { return std::move(json_); }
  OrderedJson& json() { return json_; }

 private:
  static bool IsNone(bool value) { return !value; }
  template <typename T>
  static bool IsNone(const std::optional<T>& value) {
    return !value;
  }
  template <typename T>
  static bool IsNone(const T&) {
    return false;
  }

  OrderedJson json_ = OrderedJson::object();
};

namespace json_internal {

inline OrderedJson Of(bool value) { return value; }
inline OrderedJson Of(int32_t value) { return value; }
inline OrderedJson Of(int64_t value) { return value; }
inline OrderedJson Of(size_t value) { return value; }
inline OrderedJson Of(double value) {
  return std::isfinite(value) ? OrderedJson(value) : OrderedJson(nullptr);
}
inline OrderedJson Of(const std::string& text) {
  return ReplaceInvalidUtf8(text);
}
inline OrderedJson Of(const Interval& interval) {
  return OrderedJson::array({Of(interval.low), Of(interval.high)});
}
inline OrderedJson Of(const std::pair<int64_t, int64_t>& range) {
  return OrderedJson::array({range.first, range.second});
}
template <typename T>
OrderedJson Of(const std::optional<T>& value) {
  return value ? ToJson(*value) : OrderedJson(nullptr);
}
template <typename T>
OrderedJson Of(const std::vector<T>& values) {
  OrderedJson json = OrderedJson::array();
  for (const T& value : values) json.push_back(ToJson(value));
  return json;
}
template <typename T>
OrderedJson Of(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(NameOf(value));
  } else {
    JsonWriter writer;
    VisitFields(writer, value);
    return writer.Take();
  }
}

}  // namespace json_internal

template <typename T>
OrderedJson ToJson(const T& value) {
  return json_internal::Of(value);
}

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_JSON_VALUE_H_
