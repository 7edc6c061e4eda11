// A self-check as text for people and as JSON.
#ifndef VERIFY_TFLITE_REPORT_SELF_CHECK_H_
#define VERIFY_TFLITE_REPORT_SELF_CHECK_H_

#include <string>
#include <vector>

#include "result/verification.h"

namespace verify_tflite {

// A model file compared with itself.
struct SelfCheckReport {
  std::string tool_version;
  std::string tflite_path;
  std::string recipe;  // ModelInfo::recipe_detail
  int num_threads = 1;
  std::vector<Check> checks;
  std::vector<Finding> findings;
  double seconds = 0;
};

// The worst of the checks. A check that was not made weighs nothing, unless
// none was.
Outcome OutcomeOf(const SelfCheckReport& report);

// Ends with the verdict line.
std::string SelfCheckText(const SelfCheckReport& report);
std::string SelfCheckJson(const SelfCheckReport& report);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_SELF_CHECK_H_
