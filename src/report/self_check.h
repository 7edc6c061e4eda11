// Writes a self-check as text for people and as JSON.
#ifndef VERIFY_TFLITE_REPORT_SELF_CHECK_H_
#define VERIFY_TFLITE_REPORT_SELF_CHECK_H_

#include <string>
#include <vector>

#include "result/verification.h"

namespace verify_tflite {

// The result of comparing a model file with itself.
struct SelfCheckReport {
  std::string tool_version;
  std::string tflite_path;
  std::string recipe;  // ModelInfo::recipe_detail
  int num_threads = 1;
  std::vector<Check> checks;
  std::vector<Finding> findings;
  double seconds = 0;
};

// Returns the worst outcome of the checks. A check that was not made does not
// count, unless none was made.
Outcome OutcomeOf(const SelfCheckReport& report);

// Returns text that ends with the verdict line.
std::string SelfCheckText(const SelfCheckReport& report);
std::string SelfCheckJson(const SelfCheckReport& report);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_SELF_CHECK_H_
