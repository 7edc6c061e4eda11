#include "verify/proofs.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "audit/audit_file.h"
#include "audit/findings.h"
#include "audit/weight_audit.h"
#include "base/error.h"
#include "verify/stopwatch.h"

namespace verify_tflite {

int64_t UnpackedBytes(const ModelInfo& model) {
  int64_t elements = 0;
  for (const WeightGroup& group : model.weights) {
    if (group.use == WeightGroup::Use::kDequantized) elements += group.elements;
  }
  const auto signatures = static_cast<int64_t>(model.prefills.size()) + 1;
  return elements * static_cast<int64_t>(sizeof(float)) * signatures;
}

namespace {

void Report(const WeightAudit& audit, Verification& v) {
  std::vector<Finding> findings = FindingsOf(audit);
  Check check;
  check.name = "weights";
  check.limit = 1;
  check.value = audit.weight_bytes == 0
                    ? 0
                    : static_cast<double>(audit.verified_bytes) /
                          static_cast<double>(audit.weight_bytes);
  check.detail = DescribeProof(audit);
  if (!findings.empty()) {
    for (const Finding& f : findings) {
      check.outcome = std::max(check.outcome, f.severity);
    }
  } else if (audit.weight_bytes > 0 &&
             audit.verified_bytes == audit.weight_bytes) {
    check.outcome = Outcome::kPass;
  } else {
    check.detail += "; `verify_tflite weights` lists what was not covered";
  }
  v.weight_checks = {check};
  for (Finding& finding : findings) v.findings.push_back(std::move(finding));
}

}  // namespace

WeightAudit ProveWeights(const VerifyInput& input, Verification& v) {
  const Stopwatch watch(v.timing.weights);
  if (input.progress) input.progress("weights", 0, 0);
  WeightAudit audit = AuditFile(input.model.path(), input.checkpoint,
                                input.settings.num_threads);
  Report(audit, v);
  return audit;
}

void ProveCalibrated(const StructureCheck& structure, WeightAudit& audit,
                     Verification& v) {
  std::set<int32_t> constants;
  for (const WeightMatch& match : audit.matches) {
    if (match.status == WeightMatch::Status::kCalibrated && match.input == 0) {
      constants.insert(match.constant);
    }
  }
  if (constants.empty()) return;
  const Stopwatch watch(v.timing.weights);
  // What the audit found is found again.
  for (const Finding& known : FindingsOf(audit)) {
    const auto same = [&](const Finding& f) {
      return f.id == known.id && f.sentence == known.sentence;
    };
    std::erase_if(v.findings, same);
  }
  SettleCalibrated(structure.MeasureErrors(constants), audit);
  Report(audit, v);
}

std::unique_ptr<StructureCheck> ProveStructure(
    const VerifyInput& input, const FileGraph& graph,
    std::span<const int32_t> ids, std::optional<Session> session,
    std::span<const int64_t> compiled, Verification& v) {
  const Stopwatch watch(v.timing.structure);
  v.structure.emplace();
  try {
    const PlainLogits plain =
        RunPlain(input.model.info(), *session, compiled, ids);
    session.reset();
    auto check = std::make_unique<StructureCheck>(
        StructureCheck::Input{.model = input.model,
                              .checkpoint = input.checkpoint,
                              .file = graph,
                              .ids = ids,
                              .plain = plain,
                              .num_threads = input.settings.num_threads,
                              .progress = input.progress});
    v.structure = check->Compare();
    return check;
  } catch (const Error& error) {
    // Of taps, not of the model: that ran before.
    v.structure->not_run = error.what();
    return nullptr;
  }
}

}  // namespace verify_tflite
