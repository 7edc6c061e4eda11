// How a constant differs from what the checkpoint has in its place.
#ifndef VERIFY_TFLITE_AUDIT_DIAGNOSE_H_
#define VERIFY_TFLITE_AUDIT_DIAGNOSE_H_

#include <optional>
#include <string>

#include "mapping/compare.h"
#include "mapping/originals.h"
#include "mapping/roles.h"

namespace verify_tflite {

enum class Fault {
  kNotFinite,    // NaN or infinity
  kZero,         // all of it
  kOtherTensor,  // it is another tensor of the checkpoint: `other`
  kHeadsQk,      // heads of q stand where k's should, and so on
  kHeadsKv,      //
  kHeadOrder,    // heads in another order
  kExpertRows,   // a router's rows in another order
  kInterleaved,  // rows of each head in the order of Meta's checkpoints
  kTransposed,   // of a square matrix
  kShifted,      // rows off by `shift`
  kNormOffset,   // w for 1 + w or the other way round
  kPrecision,    // rounded to fewer bits before it was stored
  kFewerBits,    // the checkpoint is it, rounded to 16 bits
  kCollapse,     // a handful of values, or clipped
  kRounding,     // not to the nearest
  kScale,        // right but for a factor
  kPartly,       // most rows or columns are right
  kDiffers,      // none of the above
};

struct Difference {
  Fault fault = Fault::kDiffers;
  std::string text;                 // what was found, with figures
  std::optional<WeightRole> other;  // kOtherTensor
  double factor = 1;                // kScale; 0: one for each channel
  double correlation = 0;           // with the original
  double size = 0;   // of the difference, relative to the original
  int64_t rank = 0;  // of the difference, where that is low
  bool low_rank = false;
  bool one_sided = false;  // kRounding: all down, up, or towards zero
};

// `comparison` is that of the two, and not ok.
Difference Diagnose(const tflite::Constant& constant, const RoleUse& use,
                    const Original& original, const Comparison& comparison,
                    const Originals& originals);

// The tensor of the checkpoint that the constant is, whatever its place.
std::optional<WeightRole> FindByContent(const tflite::Constant& constant,
                                        const Originals& originals,
                                        bool* transposed);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_AUDIT_DIAGNOSE_H_
