// Checks are questions with their answers, in groups. They are plain data.
#ifndef VERIFY_TFLITE_RESULT_CHECKS_H_
#define VERIFY_TFLITE_RESULT_CHECKS_H_

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "result/statistics.h"

namespace verify_tflite {

// The outcomes are ordered by severity; the outcome of several is the largest.
// A check that could not be made never makes anything pass.
enum class Outcome {
  kNotChecked,    // not in force or not possible for this file; says why
  kPass,          //
  kInconclusive,  // the interval holds the limit: too little evidence
  kDegraded,      // works, but worse than it should
  kBroken,        //
};

inline constexpr Outcome kAllOutcomes[] = {
    Outcome::kNotChecked, Outcome::kPass, Outcome::kInconclusive,
    Outcome::kDegraded, Outcome::kBroken};

// They return the words for an outcome, the same in every report.
std::string_view NameOf(
    Outcome outcome);  // for machines: "not_checked", "pass"
std::string_view WordOf(
    Outcome outcome);  // for people: "not checked", "passed"
// Returns "✓", "?", "✗" or "–". It is never the only sign: it goes with the
// word.
std::string_view SignOf(Outcome outcome);

// One question with its answer.
struct Check {
  std::string name;  // "tokens", "kld", "logits", "prefill_logits", …
  Outcome outcome = Outcome::kNotChecked;
  std::optional<double> value = std::nullopt;
  std::optional<double> limit = std::nullopt;
  std::string detail = "";  // one sentence; why, where it was not checked
  // The interval of `value`, where it is an estimate.
  std::optional<Interval> interval = std::nullopt;
  // Beyond it the outcome is broken, not degraded.
  std::optional<double> broken_limit = std::nullopt;
};

// Returns the check of that name, or null.
const Check* FindCheck(const std::vector<Check>& checks, std::string_view name);

bool AnyAt(const std::vector<Check>& checks, Outcome outcome);

// What the checks of a group are about.
enum class CheckGroup {
  // How far the candidate is from PyTorch: "kld", "kld_p99", "flips",
  // "differing", "logits".
  kDivergence,
  // The file's constants against the checkpoint: "weights", the share of bytes
  // that are the checkpoint's (audit/weight_audit.h), and "tables".
  kWeights,
  // "structure": the share of operators that are verified, of all signatures
  // that ran (docs/structure.md).
  kStructure,
  // The candidate against itself (verify/self_check.h).
  kSelf,
  // What the file is packed with against the checkpoint: "stop_tokens",
  // "start_token", "chat_template", "tokenizer". Empty for a .tflite alone.
  kBundle,
};

struct CheckGroupTraits {
  CheckGroup group;
  std::string_view json_key;
  std::string_view title;    // one or two words: the name of a JUnit suite
  std::string_view prefix;   // before a check's name where groups share a table
  std::string_view meaning;  // for the description of the result file
  // Its inconclusive checks decide nothing: another group can tell.
  bool lenient = false;
  // Results of versions before have no such key.
  bool newer = false;
};

// All groups, in the order of the enum and of every report.
inline constexpr CheckGroupTraits kCheckGroups[] = {
    {CheckGroup::kDivergence, "checks", "checks", "",
     "of the distance from PyTorch, over everything"},
    {CheckGroup::kWeights, "weight_checks", "weights", "",
     "of the file's constants against the checkpoint: \"weights\", the share "
     "of bytes that are the checkpoint's, and \"tables\""},
    {CheckGroup::kStructure, "structure_checks", "structure", "",
     "of the file's operators: \"structure\", the share that is verified",
     /*lenient=*/false, /*newer=*/true},
    {CheckGroup::kSelf, "self_checks", "self checks",
     "self: ", "of the TFLite model against itself", /*lenient=*/true},
    {CheckGroup::kBundle, "bundle_checks", "bundle", "bundle: ",
     "of what a .litertlm or .task is packed with against the checkpoint"},
};

// The checks of each group, in the order in which they were made.
class CheckGroups {
 public:
  std::vector<Check>& operator[](CheckGroup group) {
    return groups_[static_cast<size_t>(group)];
  }
  const std::vector<Check>& operator[](CheckGroup group) const {
    return groups_[static_cast<size_t>(group)];
  }

 private:
  std::array<std::vector<Check>, std::size(kCheckGroups)> groups_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_CHECKS_H_
