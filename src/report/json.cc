#include "report/json.h"

#include "report/json_value.h"

namespace verify_tflite {

std::string JsonReport(const Verification& v) {
  JsonWriter writer;
  writer.json()["schema_version"] = kJsonSchemaVersion;
  VisitFields(writer, v);
  return writer.json().dump(2) + "\n";
}

}  // namespace verify_tflite
