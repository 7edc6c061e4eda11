#include "base/json_file.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/mapped_file.h"

namespace verify_tflite {
namespace {

constexpr int kMaxDepth = 128;

}  // namespace

nlohmann::json ParseJsonObject(std::string_view text,
                               const std::string& origin) {
  bool too_deep = false;
  // Later code walks these values recursively, so depth is bounded here.
  const auto limit_depth = [&](int depth, nlohmann::json::parse_event_t event,
                               nlohmann::json&) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > kMaxDepth &&
        (event == Event::object_start || event == Event::array_start)) {
      too_deep = true;
      return false;
    }
    return true;
  };
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(text, limit_depth);
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
