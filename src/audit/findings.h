// What the differences that an audit found mean together.
#ifndef VERIFY_TFLITE_AUDIT_FINDINGS_H_
#define VERIFY_TFLITE_AUDIT_FINDINGS_H_

#include <vector>

#include "audit/weight_audit.h"
#include "result/finding.h"

namespace verify_tflite {

// What is wrong, the gravest first. Nothing where every weight is verified or
// was not covered.
std::vector<Finding> FindingsOf(const WeightAudit& audit);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_AUDIT_FINDINGS_H_
