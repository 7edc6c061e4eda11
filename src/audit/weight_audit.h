// Are a model file's weights the checkpoint's? Nothing runs: every constant is
// compared, element by element, with the checkpoint's tensor in its place.
// docs/weights.md explains the method.
#ifndef VERIFY_TFLITE_AUDIT_WEIGHT_AUDIT_H_
#define VERIFY_TFLITE_AUDIT_WEIGHT_AUDIT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "audit/compare.h"
#include "audit/diagnose.h"
#include "audit/roles.h"
#include "checkpoint/checkpoint.h"
#include "tflite/container.h"

namespace verify_tflite {

// A constant in one role.
struct WeightMatch {
  // Which of the inputs, and which of tflite::File::constants in it.
  int32_t input = 0;
  int32_t constant = -1;
  enum class Status {
    kVerified,  // it is the rounding of the checkpoint's tensor
    kDiffers,   // it is not: `difference`
    // Its scales are those of the checkpoint's tensor, to the bit, and its
    // numbers near to it, but not its rounding: moved with activations in mind,
    // as GPTQ does. Whether they were is shown by activations alone.
    kCalibrated,
    kByContent,  // it is that of `role`, found by content; its use is not known
    kNotCovered,  // a weight that could not be compared: `reason`
  };
  Status status = Status::kNotCovered;
  WeightRole role;             // but for kNotCovered
  std::string name;            // in the file; for the reader alone
  std::string type;            // "INT8 per channel", …
  std::vector<int64_t> shape;  // as stored
  std::string layout;          // "", "transposed", "1 + w", "q, k, v", …
  std::vector<std::string> tensors;  // of the checkpoint
  std::vector<std::string> signatures;
  int64_t bytes = 0;
  double worst = 0;  // largest |dequantised - original| in steps of rounding
  int64_t bad = 0;   // elements beyond half a step
  // Beyond it, and right: cut off at the ends of the range for the sake of the
  // others (RowPair::CountCutOff).
  int64_t cut_off = 0;
  int64_t elements = 0;
  ScaleFigures scales;
  // What chose scales and numbers, where that shows: "min-max", "MSE", "GPTQ",
  // "clipped", "on a grid"; empty where not quantised by rows.
  std::string quantiser;
  // Of GPTQ, where it ran: error on real inputs, relative to rounding's (L2).
  std::optional<double> activation_error;
  std::optional<Difference> difference;
  std::string reason;
};
std::string_view NameOf(WeightMatch::Status status);  // "verified", …

// Of tensors that transformers leaves aside, too, as MissingTensor::reason.
inline constexpr std::string_view kNotUsed = "config.json does not ask for it";

// A tensor of the checkpoint that is in no place of the file.
struct MissingTensor {
  std::string name;
  std::string reason;  // why that is as it should be, or what it means
  bool explained = false;
};

// A constant that is no weight: a table, a mask, a shape, a scalar.
struct OtherConstant {
  size_t input = 0;      // of AuditWeights' inputs
  int32_t constant = 0;  // of its tflite::File::constants
  std::string name;      // in the file; for the reader alone
  int64_t bytes = 0;
  int64_t elements = 0;  // 0: of a type not read here
};

struct WeightAudit {
  std::vector<WeightMatch> matches;  // in the order of use
  std::vector<MissingTensor> missing;
  std::vector<OtherConstant> others;
  int64_t other_constants = 0;  // of them
  int64_t other_bytes = 0;
  tflite::ZeroScales zero_scales;
  // Signatures whose graph was not understood, and why.
  std::vector<std::string> not_understood;
  // Bytes of weights, what several roles share once; verified: those whose
  // every use is verified.
  int64_t weight_bytes = 0;
  int64_t verified_bytes = 0;
  int64_t calibrated_bytes = 0;  // of kCalibrated
  int64_t by_content_bytes = 0;  // are the checkpoint's, but where is unknown
  double worst = 0;              // of what is verified, in steps
  int64_t layers = 0;
  bool own_head = false;  // the checkpoint has an LM head beside the embedding
  std::optional<double> logit_softcap;  // of the checkpoint's config.json
};

// "x of y bytes are the checkpoint's (worst 0.5000 steps of rounding; …)".
std::string DescribeProof(const WeightAudit& audit);
// What quantisers did beyond rounding by the largest magnitude of each row;
// empty: nothing.
std::string DescribeQuantisers(const WeightAudit& audit);

// One .tflite or one TFLite section of a bundle.
struct AuditInput {
  const tflite::File* file = nullptr;
  // Its bytes are pages of a file, mapped and unchanged: they are dropped from
  // memory when they were read.
  bool is_mapping = false;
};

// How far a product with a calibrated constant is from the checkpoint's, on
// real inputs X of that product: |(W' - W) X|^2 relative to the same of plain
// rounding by the same scales, which is what GPTQ makes small (Frantar et al.
// 2022, arXiv:2210.17323).
struct ActivationError {
  int32_t constant = -1;  // of the first input's constants
  double ratio = 0;       // of the whole matrix
  // Of a row; rounding's is no less here than the matrix's usual one, as a
  // row's own may be next to nothing by luck.
  double worst_ratio = 0;
  int64_t worst_row = -1;
  int64_t samples = 0;  // columns of X
};

// Settles matches of kCalibrated that `errors` has: verified where the error is
// no larger than rounding's; differs where a row's is far larger, which no
// compensation leaves; else they stay what they are, with the figures.
void SettleCalibrated(std::span<const ActivationError> errors,
                      WeightAudit& audit);

// `inputs` are the model and, where it has one, its embedder. Throws Error when
// a file is damaged. At most two threads.
WeightAudit AuditWeights(std::span<const AuditInput> inputs,
                         const Checkpoint& checkpoint, int num_threads);
// Audits the model of `container` and its embedders.
WeightAudit AuditWeights(const tflite::Container& container,
                         const Checkpoint& checkpoint, int num_threads);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_AUDIT_WEIGHT_AUDIT_H_
