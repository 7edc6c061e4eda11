// Reads the JSON files beside a checkpoint: config.json, tokenizer.json, …
#ifndef VERIFY_TFLITE_BASE_JSON_FILE_H_
#define VERIFY_TFLITE_BASE_JSON_FILE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace verify_tflite {

// Parses `text` as Python's json module does. That is JSON (RFC 8259) and the
// bare words NaN, Infinity and -Infinity in the place of a number, which that
// module writes and transformers reads. Where a key is given twice, the last
// one counts. `origin` names the text in the message. Throws Error for a syntax
// error (with line and column), for nesting deeper than 128 levels, when the
// top level is not an object, and for what RefuseNoFile (base/no_file.h) knows.
nlohmann::json ParseJsonObject(std::string_view text,
                               const std::string& origin);

// Returns ParseJsonObject of a whole file. Throws Error when it cannot be read.
nlohmann::json ReadJsonFile(const std::string& path);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_BASE_JSON_FILE_H_
