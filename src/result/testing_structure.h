// Makes a structure for tests of judging and wording.
#ifndef VERIFY_TFLITE_RESULT_TESTING_STRUCTURE_H_
#define VERIFY_TFLITE_RESULT_TESTING_STRUCTURE_H_

#include <cstdint>
#include <string>

#include "result/verification.h"

namespace verify_tflite {

inline StageAgreement StageFor(const std::string& name, bool linear,
                               double worst) {
  return {.stage = name,
          .linear = linear,
          .rows = 8,
          .worst = worst,
          .limit = linear ? 1e-6 : 1e-5};
}

// Returns a signature all of whose operators are verified.
inline SignatureStructure SignatureFor(const std::string& name, int64_t ops) {
  return {.signature = name,
          .ops = ops,
          .verified_ops = ops,
          .not_verified = {},
          .positions = {{0, 8}},
          .stages = {StageFor("query_projection", true, 4.1e-8),
                     StageFor("attention", false, 3e-6)},
          .not_run = ""};
}

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_RESULT_TESTING_STRUCTURE_H_
