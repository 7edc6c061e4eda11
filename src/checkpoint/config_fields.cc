// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/config_fields.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace verify_tflite {

using nlohmann::json;

std::string Dump(const json& value) {
  const std::string text =
      value.dump(-1, ' ', false, json::error_handler_t::replace);
  constexpr size_t kMost = 60;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "…";
}

const json* ConfigFields::Find(std::string_view key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigFields::IsNull(std::string_view key) const {
  const auto found = object_.find(key);
  return found != object_.end() && found->is_null();
}

int64_t ConfigFields::Size(std::string_view key, std::optional<int64_t> absent,
                           int64_t max, uint64_t min) const {
  const json* value = Find(key);
  if (value == nullptr && absent) return *absent;
  if (value == nullptr) throw Error("{}: no \"{}\"", origin_, key);
  if (!value->is_number_unsigned() || value->get<uint64_t>() < min ||
      value->get<uint64_t>() > static_cast<uint64_t>(max)) {
    throw Unexpected(key, *value,
                     fmt::format("an integer from {} to {}", min, max));
  }
  return value->get<int64_t>();
}

double ConfigFields::Number(std::string_view key, std::optional<double> absent,
                            double min, double max) const {
  const json* value = Find(key);
  if (value == nullptr && absent) return *absent;
  if (value == nullptr) throw Error("{}: no \"{}\"", origin_, key);
  if (!value->is_number() || !(value->get<double>() >= min) ||
      !(value->get<double>() <= max)) {
    throw Unexpected(key, *value,
                     fmt::format("a number from {} to {}", min, max));
  }
  return value->get<double>();
}

bool ConfigFields::Flag(std::string_view key, bool absent) const {
  const json* value = Find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) throw Unexpected(key, *value, "true or false");
  return value->get<bool>();
}

std::string ConfigFields::Text(std::string_view key,
                               std::string_view absent) const {
  const json* value = Find(key);
  if (value == nullptr) return std::string(absent);
  if (!value->is_string()) throw Unexpected(key, *value, "a string");
  return value->get<std::string>();
}

const json& ConfigFields::Array(std::string_view key, const json& value,
                                size_t count, bool or_more) const {
  if (!value.is_array() || value.size() < count ||
      (!or_more && value.size() > count)) {
    throw Unexpected(
        key, value,
        fmt::format("an array of {}{}", or_more ? "at least " : "", count));
  }
  return value;
}

Error ConfigFields::Unexpected(std::string_view key, const json& value,
                               std::string_view expected) const {
  return Error("{}: \"{}\" is {}, expected {}", origin_, key, Dump(value),
               expected);
}

}  // namespace verify_tflite
