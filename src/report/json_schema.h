// The description of the result file, docs/result.schema.json, as the list of
// fields has it. A test keeps the file so (VERIFY_TFLITE_APPROVE=1 writes it).
#ifndef VERIFY_TFLITE_REPORT_JSON_SCHEMA_H_
#define VERIFY_TFLITE_REPORT_JSON_SCHEMA_H_

#include <string>

namespace verify_tflite {

// Returns a JSON Schema (2020-12), pretty-printed, ending in a newline.
std::string JsonSchema();

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_JSON_SCHEMA_H_
