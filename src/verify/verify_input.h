// The input of every part of a verification.
#ifndef VERIFY_TFLITE_VERIFY_VERIFY_INPUT_H_
#define VERIFY_TFLITE_VERIFY_VERIFY_INPUT_H_

#include <cstdint>
#include <span>
#include <string>

#include "base/progress.h"
#include "candidate/model.h"
#include "checkpoint/checkpoint.h"
#include "result/verification.h"
#include "text/tokenizer.h"

namespace verify_tflite {

struct VerifyInput {
  const Model& model;
  const Checkpoint& checkpoint;
  const Tokenizer& tokenizer;
  std::span<const int32_t> eos_ids;
  const Settings& settings;
  ProgressFn progress;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_VERIFY_VERIFY_INPUT_H_
