// SPDX-License-Identifier: Apache-2.0
// The members of a JSON object that is part of a config.json.
#ifndef VERIFY_TFLITE_CHECKPOINT_CONFIG_FIELDS_H_
#define VERIFY_TFLITE_CHECKPOINT_CONFIG_FIELDS_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace verify_tflite {

// No model comes near; products of two sizes stay far inside int64.
inline constexpr int64_t kMaxSize = int64_t{1} << 24;
inline constexpr int64_t kMaxPositions = int64_t{1} << 31;
// Every layer is a key and a value cached, so a real model has few.
inline constexpr int64_t kMaxLayers = 4096;

// `value` as messages quote it: its beginning, if it is long.
std::string Dump(const nlohmann::json& value);

// A view of an object, which must outlive it. null counts as absent, as in
// transformers. What reads a member throws Error that names `origin` where the
// member is missing and has no default, has another type, or is out of range.
class ConfigFields {
 public:
  ConfigFields(const nlohmann::json& object, std::string origin)
      : object_(object), origin_(std::move(origin)) {}

  const std::string& origin() const { return origin_; }
  const nlohmann::json& object() const { return object_; }

  // Null where the member is absent.
  const nlohmann::json* Find(std::string_view key) const;
  // For keys whose null means something else than their absence.
  bool IsNull(std::string_view key) const;

  int64_t Size(std::string_view key, std::optional<int64_t> absent = {},
               int64_t max = kMaxSize, uint64_t min = 1) const;
  double Number(std::string_view key, std::optional<double> absent, double min,
                double max) const;
  bool Flag(std::string_view key, bool absent) const;
  std::string Text(std::string_view key, std::string_view absent) const;
  // `value`, which is that of `key`, an array of `count` elements.
  const nlohmann::json& Array(std::string_view key, const nlohmann::json& value,
                              size_t count, bool or_more = false) const;

  Error Unexpected(std::string_view key, const nlohmann::json& value,
                   std::string_view expected) const;

 private:
  const nlohmann::json& object_;
  std::string origin_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_CONFIG_FIELDS_H_
