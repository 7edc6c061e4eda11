// SPDX-License-Identifier: Apache-2.0
// Settings of config.json that a family does not handle.
#ifndef VERIFY_TFLITE_CHECKPOINT_UNHANDLED_KEYS_H_
#define VERIFY_TFLITE_CHECKPOINT_UNHANDLED_KEYS_H_

#include <string>
#include <vector>

#include "checkpoint/families/family.h"

namespace verify_tflite {

// Throws Error for a setting that transformers reads for `family` and the
// reference does not; returns a note on each that transformers ignores.
std::vector<std::string> CheckUnhandled(const ConfigFields& fields,
                                        const Family& family);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_CHECKPOINT_UNHANDLED_KEYS_H_
