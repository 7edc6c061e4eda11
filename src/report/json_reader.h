// Reads back what --json wrote. The format is in docs/json_format.md.
#ifndef VERIFY_TFLITE_REPORT_JSON_READER_H_
#define VERIFY_TFLITE_REPORT_JSON_READER_H_

#include <string>
#include <string_view>

#include "result/verification.h"

namespace verify_tflite {

// Returns the verification whose JsonReport is `text` again, byte by byte.
// `origin` names the file in messages. Fields that this version does not know
// are ignored. Throws Error for a missing or mistyped one, a value out of
// range, a schema_version other than kJsonSchemaVersion, and text that is no
// JSON.
Verification ReadJsonReport(std::string_view text, const std::string& origin);

// Does the same with a file. Throws Error also when it cannot be read.
Verification ReadJsonReportFile(const std::string& path);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_JSON_READER_H_
