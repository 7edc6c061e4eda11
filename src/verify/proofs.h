// Proves whether the file is faithful: its weights, and what its graph
// computes.
#ifndef VERIFY_TFLITE_VERIFY_PROOFS_H_
#define VERIFY_TFLITE_VERIFY_PROOFS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "audit/weight_audit.h"
#include "candidate/session.h"
#include "reference/reference.h"
#include "structure/structure_check.h"
#include "verify/verify_input.h"

namespace verify_tflite {

// Weights that the runtime dequantises as a whole take memory for every
// signature that is compiled. Files beyond this limit are not compiled for
// checks that need all signatures at once.
inline constexpr int64_t kMaxUnpackedBytes = int64_t{1} << 30;
int64_t UnpackedBytes(const ModelInfo& model);

// Audits the weights: fills the check "weights" and adds to v.findings. Nothing
// runs. Throws Error when the file is damaged.
WeightAudit ProveWeights(const VerifyInput& input, const ModelMap& map,
                         Verification& v);

// Returns the finding "table-too-short", one for all signatures, or none. It is
// broken: the runtime fails at positions that the KV cache has room for. Only
// what depends on positions alone is run.
std::vector<Finding> ShortTableFindings(const Model& model,
                                        const FileGraph& graph);

// Shows that what depends on positions is right at all positions of the KV
// cache, and accounts for every byte of the constants that are no weights. It
// adds "tables" to the checks of weights. The findings that it returns count
// where nothing else explains them.
std::vector<Finding> ProveTables(const VerifyInput& input,
                                 const FileGraph& graph,
                                 const WeightAudit& audit,
                                 const Reference& reference, Verification& v);

// Proves the weights again with what ran, where the audit alone cannot say
// whether a quantiser moved weights to suit activations.
void ProveCalibrated(const StructureCheck& structure, WeightAudit& audit,
                     Verification& v);

// Verifies the structure and fills v.structure. It consumes `session`, so that
// two copies of a large model need not be in memory. `compiled` are the lengths
// of the prefill signatures that the session has. The result refers to `graph`;
// it is null where the model cannot be run with taps.
std::unique_ptr<StructureCheck> ProveStructure(
    const VerifyInput& input, const FileGraph& graph,
    std::span<const int32_t> ids, std::optional<Session> session,
    std::span<const int64_t> compiled, Verification& v);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_PROOFS_H_
