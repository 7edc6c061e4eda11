// Answers the two questions of a verification separately: is the file faithful
// (its weights are the checkpoint's, its operators compute what the model
// says), and what does its recipe cost? docs/pass_rule.md explains them.
#ifndef VERIFY_TFLITE_RESULT_FAITHFUL_H_
#define VERIFY_TFLITE_RESULT_FAITHFUL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "result/verification.h"

namespace verify_tflite {

// The operators of the signatures that ran; all numbers are zero where none
// did.
struct OpCoverage {
  int64_t ops = 0;
  int64_t verified = 0;
  int64_t signatures = 0;
};
OpCoverage CoverageOf(const Structure& structure);

// Returns the largest error of what was compared: in products with weights
// (`linear`) or in all other stages. Returns none if there are no such stages,
// and NaN if any error is. Integers, which are compared in steps, do not count.
std::optional<double> WorstError(const Structure& structure, bool linear);
std::optional<double> WorstError(const SignatureStructure& signature,
                                 bool linear);

// Returns, of the stages compared in steps, the one nearest to its limit or
// furthest beyond; null if there are none.
const StageAgreement* WorstSteps(const SignatureStructure& signature,
                                 bool linear);

// Returns "worst error 4.1e-08 in products with weights, 3e-06 in the rest";
// empty where nothing was compared. For integers it returns "off by 0.99 of
// 1.01 steps that rounding may take in products with weights, 2.1 of 3 in the
// rest".
std::string DescribeWorst(const Structure& structure);

// They return "100 %" only for the whole. A smaller share is rounded down:
// "99.9 %".
std::string Percent(int64_t part, int64_t whole);
std::string Percent(double share);

// Returns what is missing from the proof of a signature, in words: that it did
// not run, or the operators that are not covered. Returns an empty text if
// nothing is missing.
std::string GapOf(const SignatureStructure& signature);

// Returns "query_projection (FULLY_CONNECTED) of layer 3 in decode at position
// 5: error 0.02, limit 1e-06".
std::string Describe(const StructureFault& fault);

// Returns the check "structure", as the judge makes it: the share of operators
// that are verified. `kld` is the outcome of the check of that name. The check
// is degraded where a stage is beyond its limit, and broken where the
// divergence is, too. It passes only where every signature ran and every
// operator of it is verified, in a model that computes the same bits as the
// file. Otherwise it is not checked, and says what was not covered.
Check CheckStructure(const Verification& verification, Outcome kld);

// Returns the same check for each signature, under its name; none where nothing
// ran at all. The outcome of those with faults is that of the check.
std::vector<Check> SignatureChecks(const Verification& verification);

// Each returns the check of that name, or null where none was made.
const Check* WeightsCheckOf(const Verification& verification);
const Check* FindTables(const Verification& verification);
const Check* StructureCheckOf(const Verification& verification);

// These look at the checks, so call them after Judge.
bool WeightsProven(const Verification& verification);  // to the last byte

// Returns whether "tables" passes: every other constant is explained, and what
// depends on positions is right at all of them.
bool TablesProven(const Verification& verification);
bool StructureProven(const Verification& verification);  // "structure" passes
bool IsFaithful(const Verification& verification);       // both

// Mean KL divergences in nats over the positions of the evaluation.
struct CostSplit {
  double total = 0;    // of the candidate from PyTorch
  double weights = 0;  // of the file's weights in PyTorch from the checkpoint's
  double rest = 0;     // what is left of the total, at least 0
  // Less than 1 % of the total is left, which is not worth a word.
  bool all_weights = false;
};
// Returns none where the cost was not measured, not at the same positions, or
// is no number.
std::optional<CostSplit> SplitCost(const Verification& verification);

// Returns what causes the rest: "activations", "KV caches", …, by what the file
// quantises.
std::string NameOfRest(const ModelInfo& model);

// Returns whether the mean divergence is beyond what the recipe may cost. Ties,
// which are as wide as the noise, then excuse nothing.
bool IsNoisy(double mean_kld, const Limits& limits);
// Returns the same for a prompt, by its check.
bool IsNoisy(const PromptResult& result);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_FAITHFUL_H_
