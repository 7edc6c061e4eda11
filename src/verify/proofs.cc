#include "verify/proofs.h"

#include <fmt/format.h>

#include <algorithm>
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

void ProveWeights(const VerifyInput& input, Verification& v) {
  const Stopwatch watch(v.timing.weights);
  if (input.progress) input.progress("weights", 0, 0);
  const WeightAudit audit = AuditFile(input.model.path(), input.checkpoint,
                                      input.settings.num_threads);
  std::vector<Finding> findings = FindingsOf(audit);
  Check check;
  check.name = "weights";
  check.limit = 1;
  check.value = audit.weight_bytes == 0
                    ? 0
                    : static_cast<double>(audit.verified_bytes) /
                          static_cast<double>(audit.weight_bytes);
  check.detail = fmt::format(
      "{} of {} bytes are the checkpoint's (worst {:.4f} steps of rounding)",
      audit.verified_bytes, audit.weight_bytes, audit.worst);
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

std::unique_ptr<StructureCheck> ProveStructure(
    const VerifyInput& input, const FileGraph& graph,
    std::span<const int32_t> ids, std::optional<Session> session,
    std::span<const int64_t> compiled, Verification& v) {
  const Stopwatch watch(v.timing.structure);
  v.structure.emplace();
  try {
    const ModelInfo& info = input.model.info();
    const PlainLogits plain =
        RunPlain(info, PositionsOf(info, input.checkpoint.config()), *session,
                 compiled, ids);
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
