// JSON as it stands beside a checkpoint: config.json, tokenizer.json, …
#ifndef VERIFY_TFLITE_BASE_JSON_FILE_H_
#define VERIFY_TFLITE_BASE_JSON_FILE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace verify_tflite {

// Parses `text`; `origin` names it in the message. Throws Error for a syntax
// error (with line and column), for nesting deeper than 128 levels, and when
// the top level is not an object.
nlohmann::json ParseJsonObject(std::string_view text,
                               const std::string& origin);

// ParseJsonObject of a whole file. Throws Error when it cannot be read.
nlohmann::json ReadJsonFile(const std::string& path);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_JSON_FILE_H_
