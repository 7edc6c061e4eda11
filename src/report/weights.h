// Writes the audit of a model file's weights, as text for people and as JSON.
#ifndef VERIFY_TFLITE_REPORT_WEIGHTS_H_
#define VERIFY_TFLITE_REPORT_WEIGHTS_H_

#include <string>
#include <vector>

#include "audit/weight_audit.h"
#include "result/verification.h"

namespace verify_tflite {

struct WeightReport {
  std::string tflite_path;
  std::string checkpoint_path;
  WeightAudit audit;
  std::vector<Finding> findings;
  std::vector<std::string> notes;  // on the checkpoint; they decide nothing
  double seconds = 0;
  int64_t peak_memory_bytes = 0;
};

// It is raised when a field changes its meaning or goes; new fields do not
// raise it.
inline constexpr int kWeightsSchemaVersion = 1;

// Returns pass if every weight is the checkpoint's, in its place. Returns not
// checked if some were not covered or found by content alone, and there is no
// finding. Returns the gravest finding's severity otherwise.
Outcome OutcomeOf(const WeightReport& report);

// Returns tables of at most 100 columns, but for names longer than that.
std::string WeightsText(const WeightReport& report);
// Returns JSON, pretty-printed, ending in a newline. Its format is in
// docs/weights.md.
std::string WeightsJson(const WeightReport& report);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_WEIGHTS_H_
