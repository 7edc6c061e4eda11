// The explanations of a fault are functions, in the order of what they prove
// (docs/locate.md). Each looks at the evidence and answers with a finding where
// it explains the fault. They throw Error as Reference does.
#ifndef VERIFY_TFLITE_VERIFY_CAUSES_CAUSES_H_
#define VERIFY_TFLITE_VERIFY_CAUSES_CAUSES_H_

#include <vector>

#include "verify/causes/evidence.h"

namespace verify_tflite {

// Explains by which tokens attention sees: a mask that is not causal, another
// window.
Explanation ExplainByReach(const Evidence& evidence);

// They explain by the angles that keys are rotated by, in the first layer whose
// keys are wrong and whose values are right.
Explanation ExplainByDecodeRope(const Evidence& evidence);
Explanation ExplainByPrefillRope(const Evidence& evidence);
// Explains the same from local verification, where no noise is in the way.
Explanation ExplainByWrongKeys(const Evidence& evidence);

// They explain by what stands in another's place: caches, heads, slots.
Explanation ExplainByDecodePlaces(const Evidence& evidence);
Explanation ExplainByPrefillPlaces(const Evidence& evidence);

// Returns the changes that the reference is computed again with: settings
// fitted to local verification, layers in another order, other settings, masks.
std::vector<Change> ChangesFor(const Evidence& evidence);

// Holds the reference with each of Evidence::changes against decode's logits.
Explanation ExplainByLogits(const Evidence& evidence);
// Compares them with the stages of local verification. A change that explains
// all faults of decode explains the file, however small they are.
Explanation ExplainByStages(const Evidence& evidence);

// Explains faults in what enters down of sparse layers, and nowhere else.
Explanation ExplainBySparsity(const Evidence& evidence);

// Names the place of the fault, when nothing explains it.
Explanation ExplainByPlace(const Evidence& evidence);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_CAUSES_CAUSES_H_
